"""A hub of models on this machine, as far as a download asks for it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """One repository at one revision.

    ``cut`` ends the next answer that is longer in its middle; ``sent`` counts bytes of files.
    """

    daemon_threads = True

    def __init__(self, repository: str, revision: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.revision = repository, revision
        self.files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        self.cut, self.sent, self.asked = 0, 0, [""]
        self.lie = False  # about the digest of weights

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing(self) -> list[dict[str, Any]]:
        entries = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "path": name, "type": "file"}
            entry |= {"size": len(content), "oid": _git_id(content), "blobId": _git_id(content)}
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(b"x" if self.lie else content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(content)}
                entry["lfs"]["pointerSize"] = 134
            entries.append(entry)
        return entries


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(path)
        api = f"/api/models/{hub.repository}"
        if path == f"{api}/tree/{hub.revision}":
            self._json(hub.listing())
        elif path in (f"{api}/revision/{hub.revision}", api):
            about = {"id": hub.repository, "sha": hub.revision, "siblings": hub.listing()}
            self._json({**about, "tags": [], "private": False})
        elif path.startswith(start := f"/{hub.repository}/resolve/{hub.revision}/"):
            self._file(path.removeprefix(start))
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def _file(self, name: str) -> None:
        hub = self.server
        content = hub.files[name]
        tags = {"ETag": f'"{_git_id(content)}"', "X-Repo-Commit": hub.revision}
        first = 0
        if wanted := self.headers.get("Range"):
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            tags["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._answer(206 if first else 200, content[first:], tags)

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        hub = self.server
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.cut and len(content) > hub.cut:
            content, hub.cut = content[: hub.cut], 0
            self.close_connection = True
        self.wfile.write(content)
        hub.sent += len(content) if "ETag" in headers else 0

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


@contextmanager
def hub(repository: str, revision: str, folder: Path) -> Iterator[Hub]:
    server = Hub(repository, revision, folder)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
