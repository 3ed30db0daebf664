"""Run `edgelm doctor` with keys and testbed file from standard input; leaves neither behind."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

given = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    for name, text in given.items():
        Path(folder, name).write_text(text)
    command = ["edgelm", "doctor", "--json", "--controller", "http://127.0.0.1:8700"]
    command += ["--keys", f"{folder}/operator.json", "--testbed", f"{folder}/testbed.yaml"]
    sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own command
