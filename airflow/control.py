"""Start, end and show Airflow on this machine: see docs/airflow.md.

Example: python airflow/control.py start
"""

import sys

from airflow_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
