"""Serve one LM over HTTP.

Example: python -m lm_server --engine emulated --model times.json --data data --port 8001
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import socket
import ssl
import sys
from pathlib import Path

from lm_server.checkpoint import Checkpoint, DamagedCheckpoint, FolderInUse
from lm_server.engines import ENGINES
from lm_server.serving import EngineUnusable


def main() -> None:
    """Parse the options and serve until TERM or Ctrl-C; exit 2 on wrong options."""
    parser = _parser()
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if not options.model.exists():
        parser.error(f"--model: {options.model} is not there: give the folder or file of the LM")
    if not 0 <= options.port < 2**16:  # the resolver would take it modulo 65536
        parser.error(f"--port: {options.port} is no port: give 0 to 65535")
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key: give both or none")
    if options.tls_cert:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                options.tls_cert, options.tls_key
            )
        except OSError as error:
            parser.error(f"--tls-cert, --tls-key: cannot be used ({error}): give PEM files")
    try:
        token = _token(options.token_file)
    except (OSError, ValueError) as error:
        parser.error(f"--token-file: {error}")
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        parser.error(f"--port: cannot listen on {options.port} ({error.strerror}): give another")
    try:
        checkpoint = Checkpoint(options.data, int(options.floor_gb * 1e9))
    except (DamagedCheckpoint, FolderInUse, OSError) as error:
        sys.exit(f"lm_server: --data: {error}")
    gc.disable()  # imports make no garbage to look for: a tenth of the start
    from lm_server.app import serve

    gc.enable()
    try:
        asyncio.run(serve(options, checkpoint, listener, token))
    except EngineUnusable as error:
        sys.exit(f"lm_server: --model: {options.model} cannot be loaded ({error})")
    _forget_unwritten_log()


def _forget_unwritten_log() -> None:
    """Drop lines of the log that a full disk has not taken: Python would exit with 120 for them."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lm_server", description=__doc__)
    add = parser.add_argument
    add("--engine", choices=sorted(ENGINES), required=True)
    add("--model", type=Path, required=True, help="weights, or emulated times")
    add("--data", type=Path, required=True, help="folder of checkpoint and results")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8001, help="0 takes a free one")
    add("--grace-s", type=float, default=20.0, help="for the batch in hand")
    add("--silent-s", type=float, default=5.0, help="a worker's longest silence")
    add("--floor-gb", type=float, default=1.0, help="free space for new requests")
    add("--keep-h", type=float, default=24.0, help="how long results stay")
    add("--token-file", type=Path, help="file with the token that clients need")
    add("--tls-cert", type=Path, help="PEM file of the certificate and its chain")
    add("--tls-key", type=Path, help="PEM file of its key")
    return parser


def _token(path: Path | None) -> str:
    """Return the token in a file, or "" where none is wanted.

    Raises:
        OSError, ValueError: there is none; the message does not quote the file.
    """
    if path is None:
        return ""
    token = path.read_bytes().strip().decode("ascii", "replace")
    if not token.isprintable() or len(token) < 16 or "\ufffd" in token or " " in token:
        raise ValueError(f"{path} has no token: put 16 or more ASCII characters into one line")
    return token


def _listen(host: str, port: int) -> socket.socket:
    # A socket that says it is TCP's: else asyncio leaves Nagle's algorithm on, and replies wait.
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(2048)
    return listener


if __name__ == "__main__":
    main()
