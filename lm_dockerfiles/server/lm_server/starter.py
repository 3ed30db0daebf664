"""Starter of many servers on one machine: imports once, then forks a server per line of its input.

It says "ready" first. Then a line is JSON, {"arguments": [...], "log": PATH}, and the answer is the
new process's id on a line.
Servers go on when the starter ends, which it does with its input. Where a server has a pod of its
own, nobody needs this.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys


def main() -> None:
    """Fork servers until the input ends."""
    import lm_server.__main__
    import lm_server.app  # noqa: F401 - what a server imports when it starts

    gc.collect()
    gc.freeze()  # a child's collector must not copy what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave no zombies
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_server(order["arguments"], order["log"])
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def _become_server(arguments: list[str], log: str) -> None:
    """Turn this fresh child into a server; it never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _redirect(log)
        sys.argv = ["lm_server", *arguments]
        lm_server = sys.modules["lm_server.__main__"]
        lm_server.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    """Read from nothing, write to the log, as a started program would."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, target)


if __name__ == "__main__":
    main()
