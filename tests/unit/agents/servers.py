"""A small real server that speaks OpenAI's chat completions as it is told to, on loopback."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = str | bytes | Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True)
class Reply:
    """What to answer: a body, or a way of failing."""

    body: Body = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int | None = None  # close the connection after so many bytes of the body
    stall: bool = False  # after ``cut`` bytes, stay silent instead of closing
    reset: bool = False  # close it before any answer
    raw: bytes | None = None  # send this instead of HTTP
    hang: bool = False  # say nothing until the server stops


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at_s: float


Script = Callable[[Request], Reply]


def completion(content: Any = '{"ok":true}', **changes: Any) -> dict[str, Any]:
    """A chat completion's body; ``changes`` to message, choice or body by their names."""
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": changes.pop("finish", "stop")}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test-model",
        "choices": [choice],
        "usage": usage,
        **changes,
    }


def answer(content: Any = '{"ok":true}', **changes: Any) -> Reply:
    return Reply(completion(content, **changes))


def complaint(status: int, message: str, **fields: Any) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message, "type": "error", **fields}}, status)


class Server:
    """Answers with ``script``: a function of the request, or replies in turn, the last for ever."""

    def __init__(self, script: Script | Sequence[Reply]) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.connections = 0
        self._script = script if callable(script) else _in_turn(script)
        self._lock, self.stopped, self._at_once = threading.Lock(), threading.Event(), 0
        self._http = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"script_of": self}))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def serve(self) -> None:
        self._http.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def asked(self) -> list[Any]:
        """Bodies of the chat completions that were asked for."""
        return [one.body for one in self.requests if one.method == "POST"]

    def respond(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            reply = self._script(request)
        self.stopped.wait(3600.0 if reply.hang else reply.delay_s)
        with self._lock:
            self._at_once -= 1
        return reply


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


def _in_turn(replies: Sequence[Reply]) -> Script:
    left = list(replies)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    script_of: Server  # set on a subclass per server

    def setup(self) -> None:
        super().setup()
        self.script_of.connections += 1

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._reply("POST", json.loads(content))

    def do_GET(self) -> None:
        self._reply("GET", None)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""

    def _reply(self, method: str, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method, self.path, headers, body, time.monotonic())
        reply = self.script_of.respond(request)
        if reply.hang or reply.reset or reply.raw is not None:
            self._drop(reply)
            return
        content = _encoded(reply.body)
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: reply.cut])
        if reply.stall:
            self.wfile.flush()
            self.script_of.stopped.wait(3600.0)
        if reply.cut is not None:
            self._drop(reply)

    def _drop(self, reply: Reply) -> None:
        self.wfile.write(reply.raw or b"")
        self.wfile.flush()
        self.close_connection = True
        if reply.reset:  # RST instead of FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _encoded(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@contextmanager
def serving(script: Script | Sequence[Reply] | Reply) -> Iterator[Server]:
    """A server for the duration of a ``with``."""
    server = Server([script] if isinstance(script, Reply) else script)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
