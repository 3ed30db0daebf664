"""Ends the processes noted in a folder when its input ends: whoever started it is gone then, even
by a kill. Run by Python with ``airflow/`` on its path."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_local import components

if __name__ == "__main__":
    sys.stdin.buffer.read()
    components.end_noted(Path(sys.argv[1]))
