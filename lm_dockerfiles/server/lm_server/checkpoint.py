"""Accepted requests and recorded prompts on disk.

A request is acknowledged when its file is on disk. A prompt is recorded when its line is: the
result is written, synced and renamed before, so a recorded prompt has its result. A kill tears at
most the last line, which is cut off; what it stood for is computed again.

    DATA/requests/HASH.json     request as accepted; gone when it is forgotten
    DATA/results/HASH-INDEX     result of a prompt
    DATA/checkpoint.csv         a line per begun batch, recorded prompt and ended request
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

BEGUN: Final = "begun"
RECORDED: Final = "recorded"
ENDED: Final = "ended"


class DamagedCheckpoint(Exception):
    """A line of the checkpoint, other than the last, that cannot have been written."""


@dataclass(slots=True)
class Progress:
    """Progress of one request, as it is on disk."""

    request: dict[str, Any]
    sequence: int  # order of acceptance
    begun: set[int] = field(default_factory=set)
    recorded: dict[int, str] = field(default_factory=dict)  # prompt -> SHA-256 of its result
    recomputed: int = 0
    failure: str | None = None  # None while it goes on; "" when every prompt is recorded


class Checkpoint:
    """Files of one server. One process writes them.

    Args:
        floor_bytes: free space below which no new request is accepted; what was accepted goes on.

    Raises:
        DamagedCheckpoint: a line in the middle is damaged; the message says what to do.
    """

    def __init__(self, folder: Path, floor_bytes: int = 0) -> None:
        self._folder, self._floor = folder, floor_bytes
        self._path = folder / "checkpoint.csv"
        for name in ("requests", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.requests: dict[str, Progress] = {}
        self._sequence = 0  # of the newest request
        self._read_requests()
        self._read_lines()
        self._lines = self._path.open("ab")

    @property
    def has_room(self) -> bool:
        """True if the disk has more free space than the floor."""
        return shutil.disk_usage(self._folder).free > self._floor

    def accept(self, request: dict[str, Any]) -> Progress:
        """Write a new request durably and return its progress."""
        self._sequence += 1
        sequence = self._sequence
        document = json.dumps({"sequence": sequence, "request": request}).encode()
        _write(self._request(request["id"]), document)
        progress = self.requests[request["id"]] = Progress(request, sequence)
        return progress

    def begin(self, request_id: str, prompts: list[int]) -> None:
        """Note that a batch is being computed. Not synced: it only serves to count repetitions."""
        progress = self.requests[request_id]
        for index in prompts:
            progress.recomputed += index in progress.begun
            progress.begun.add(index)
            self._append(BEGUN, request_id, index, "")
        self._lines.flush()

    def record(self, request_id: str, results: dict[int, bytes]) -> None:
        """Write the results of a batch durably, then the lines that vouch for them."""
        for index, content in results.items():
            _write(self._result(request_id, index), content)
        for index, content in results.items():
            sha256 = hashlib.sha256(content).hexdigest()
            self._append(RECORDED, request_id, index, sha256)
            self.requests[request_id].recorded[index] = sha256
        self._sync()

    def end(self, request_id: str, failure: str) -> None:
        """Write durably that a request is over; ``failure`` is "" for success."""
        self.requests[request_id].failure = failure
        self._append(ENDED, request_id, -1, failure or "done")
        self._sync()

    def result(self, request_id: str, index: int) -> bytes | None:
        """Return a recorded result; None if it is not recorded, or not as recorded any more."""
        sha256 = self.requests[request_id].recorded.get(index)
        if sha256 is None:
            return None
        try:
            content = self._result(request_id, index).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    def forget(self, accepted_before_unix_s: float) -> int:
        """Remove requests that are over and were accepted before a time; return how many."""
        over = [one for one, progress in self.requests.items() if progress.failure is not None]
        old = [one for one in over if self._accepted_s(one) < accepted_before_unix_s]
        for request_id in old:
            for index in self.requests.pop(request_id).recorded:
                self._result(request_id, index).unlink(missing_ok=True)
            self._request(request_id).unlink(missing_ok=True)
        return len(old)

    def close(self) -> None:
        self._lines.close()

    def _accepted_s(self, request_id: str) -> float:
        try:
            return self._request(request_id).stat().st_mtime
        except OSError:
            return 0.0

    def _request(self, request_id: str) -> Path:
        return self._folder / "requests" / f"{_hash(request_id)}.json"

    def _result(self, request_id: str, index: int) -> Path:
        return self._folder / "results" / f"{_hash(request_id)}-{index}"

    def _append(self, kind: str, request_id: str, index: int, value: str) -> None:
        self._lines.write(f"{kind},{_hash(request_id)},{index},{value}\n".encode())

    def _sync(self) -> None:
        self._lines.flush()
        os.fsync(self._lines.fileno())

    def _read_requests(self) -> None:
        for path in (self._folder / "requests").glob("*.json"):
            document = json.loads(path.read_bytes())
            request = document["request"]
            self.requests[request["id"]] = Progress(request, document["sequence"])
            self._sequence = max(self._sequence, document["sequence"])

    def _read_lines(self) -> None:
        """Read the lines. A last one that a kill has torn and those of forgotten requests go."""
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        by_hash = {_hash(request_id): one for request_id, one in self.requests.items()}
        kept = []
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), 1):
            kind, name, index, value = self._parse(number, line)
            progress = by_hash.get(name)
            if progress is None:
                continue
            kept.append(f"{line}\n")
            if kind == BEGUN:
                progress.recomputed += index in progress.begun
                progress.begun.add(index)
            elif kind == RECORDED:
                progress.recorded[index] = value
            else:
                progress.failure = "" if value == "done" else value
        remaining = "".join(kept).encode()
        if remaining != content:
            _write(self._path, remaining)

    def _parse(self, number: int, line: str) -> tuple[str, str, int, str]:
        parts = line.split(",")
        try:
            kind, name, index, value = parts
            if kind not in (BEGUN, RECORDED, ENDED) or (kind == RECORDED and len(value) != 64):
                raise ValueError
            return kind, name, int(index), value
        except ValueError:
            raise DamagedCheckpoint(
                f"{self._path}: line {number} is damaged: move the folder away to start without "
                "its requests, or restore the file"
            ) from None


def _hash(request_id: str) -> str:
    """Return the name of a request's files: an id never becomes a path."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]


def _write(path: Path, content: bytes) -> None:
    """Write a file whole and durably, readable by its owner alone."""
    partial = path.with_name(f".{path.name}.tmp")
    with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
