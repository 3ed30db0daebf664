"""Accepted requests and recorded prompts on disk.

A request is acknowledged when its file is on disk. A prompt is recorded when its line is: the
result is written, synced and renamed before, so a recorded prompt has its result. A kill tears at
most the last lines, which are cut off; what they stood for is computed again.

    DATA/requests/HASH.jsonl    request as accepted: a line about it, a line of contents;
                                gone when it is forgotten
    DATA/results/HASH-INDEX     result of a prompt
    DATA/checkpoint.csv         a line per begun batch, recorded prompt and ended request
    DATA/lock                   locked by the server that uses the folder

Every method that writes raises OSError if the disk does not take it, and can be called again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

BEGUN: Final = "begun"
RECORDED: Final = "recorded"
ENDED: Final = "ended"
NOTHING: Final[AbstractSet[int]] = frozenset()  # shared: many requests are over


class DamagedCheckpoint(Exception):
    """A file that cannot have been written like that, by whatever kill."""


class FolderInUse(Exception):
    """Another server's folder."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A prompt whose result is on disk, and the batch that computed it."""

    sha256: str
    began_unix_s: float
    recorded_unix_s: float


@dataclass(slots=True)
class Progress:
    """Progress of one request, as it is on disk. Its contents are not in memory."""

    id: str
    sequence: int  # order of acceptance
    prompts: int
    deadline_unix_s: float
    digest: str  # of the request: another one under the same id has another
    attached: bool = False  # it is cancelled when its client's connection ends
    begun: AbstractSet[int] = NOTHING
    recorded: dict[int, Recorded] = field(default_factory=dict)
    recomputed: int = 0
    failure: str | None = None  # None while it goes on; "" when every prompt is recorded
    reason: str = ""  # of a failure, if there is more to say

    def end(self, failure: str, reason: str) -> None:
        self.failure, self.reason = failure, reason
        self.begun = NOTHING  # is computed again


class Checkpoint:
    """Files of one server. One process writes them.

    Args:
        floor_bytes: free space below which no new request is accepted; what was accepted goes on.

    Raises:
        DamagedCheckpoint: a file is damaged, not just torn; the message says what to do.
        FolderInUse: another process has it open.
        OSError: it cannot be made, read or written.
    """

    def __init__(self, folder: Path, floor_bytes: int = 0) -> None:
        self.folder, self._floor = folder, floor_bytes
        self._path = folder / "checkpoint.csv"
        for name in ("requests", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(folder)
        self.requests: dict[str, Progress] = {}
        self._sequence = 0  # of the newest request
        try:
            self._read_requests()
            self._read_lines()
        except Exception:
            self._lock.close()
            raise
        self._lines = self._path.open("ab", buffering=0)
        self._appending = threading.Lock()

    @property
    def has_room(self) -> bool:
        """True if the disk has more free space than the floor."""
        return shutil.disk_usage(self.folder).free > self._floor

    def accept(
        self, request: dict[str, Any], digest: str = "", *, attached: bool = False
    ) -> Progress:
        """Write a new request durably and return its progress."""
        about = {
            "id": request["id"],
            "sequence": self._sequence + 1,
            "prompts": len(request["prompts"]),
            "deadline_unix_s": request["deadline_unix_s"],
            "digest": digest,
            "attached": attached,
        }
        lines = f"{json.dumps(about)}\n{json.dumps(request['prompts'])}\n"
        _write(self._request(request["id"]), lines.encode())
        _sync_folder(self.folder / "requests")
        self._sequence += 1
        progress = self.requests[request["id"]] = Progress(**about)
        return progress

    def contents_bytes(self, request_id: str) -> int:
        """Return the size of a request's file; 0 if it is gone."""
        try:
            return self._request(request_id).stat().st_size
        except OSError:
            return 0

    def contents(self, request_id: str) -> list[dict[str, Any]]:
        """Return the prompts of a request.

        Raises:
            OSError, ValueError: its file is gone or damaged.
        """
        with self._request(request_id).open("rb") as file:
            file.readline()
            prompts: list[dict[str, Any]] = json.loads(file.read())
        if len(prompts) != self.requests[request_id].prompts:
            raise ValueError("prompts are missing")
        return prompts

    def begin(self, request_id: str, prompts: list[int]) -> None:
        """Note that a batch is being computed.

        It only serves to count repetitions: it is not synced, and a full disk does not matter.
        """
        progress = self.requests[request_id]
        progress.recomputed += len(progress.begun & set(prompts))
        progress.begun |= set(prompts)
        with contextlib.suppress(OSError):
            self._append([_line(BEGUN, request_id, index) for index in prompts])

    def record(self, request_id: str, results: dict[int, bytes], began_unix_s: float = 0.0) -> None:
        """Write the results of a batch durably, then the lines that vouch for them.

        The last batch of a request ends it.
        """
        for index, content in results.items():
            _write(self._result(request_id, index), content)
        _sync_folder(self.folder / "results")
        began_unix_s, now_s = round(began_unix_s, 6), round(time.time(), 6)  # as in its line
        recorded = {
            index: Recorded(hashlib.sha256(content).hexdigest(), began_unix_s, now_s)
            for index, content in results.items()
        }
        lines = [
            _line(RECORDED, request_id, index, one.sha256, began_unix_s, now_s)
            for index, one in recorded.items()
        ]
        progress = self.requests[request_id]
        is_last = len(progress.recorded.keys() | recorded) == progress.prompts
        if is_last:
            lines.append(_line(ENDED, request_id, -1, "done", written_s=now_s))
        self._append(lines, sync=True)
        progress.recorded.update(recorded)
        if is_last:
            progress.end("", "")

    def end(self, request_id: str, failure: str, reason: str = "") -> None:
        """Write durably that a request is over; ``failure`` is "" for success."""
        value = f"{failure or 'done'}:{reason}" if reason else failure or "done"
        self._append([_line(ENDED, request_id, -1, value, written_s=time.time())], sync=True)
        self.requests[request_id].end(failure, reason)

    def result(self, request_id: str, index: int) -> bytes | None:
        """Return a recorded result; None if it is not recorded, or not as recorded any more."""
        progress = self.requests.get(request_id)
        recorded = progress.recorded.get(index) if progress else None
        if recorded is None:
            return None
        try:
            content = self._result(request_id, index).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == recorded.sha256 else None

    def forget(self, accepted_before_unix_s: float) -> int:
        """Remove requests that are over and were accepted before a time; return how many."""
        over = [one for one, progress in self.requests.items() if progress.failure is not None]
        old = [one for one in over if self._accepted_s(one) < accepted_before_unix_s]
        for request_id in old:
            for index in self.requests.pop(request_id).recorded:
                self._result(request_id, index).unlink(missing_ok=True)
            self._request(request_id).unlink(missing_ok=True)
        return len(old)

    def compact(self) -> None:
        """Remove the lines of forgotten requests. May run in a thread of its own."""
        with self._appending:
            names = {_hash(request_id).encode() for request_id in list(self.requests)}
            lines = self._path.read_bytes().splitlines(keepends=True)
            _write(self._path, b"".join(one for one in lines if one.split(b",")[1] in names))
            _sync_folder(self.folder)
            self._lines.close()
            self._lines = self._path.open("ab", buffering=0)

    def close(self) -> None:
        self._lines.close()
        self._lock.close()

    def _accepted_s(self, request_id: str) -> float:
        try:
            return self._request(request_id).stat().st_mtime
        except OSError:
            return 0.0

    def _request(self, request_id: str) -> Path:
        return self.folder / "requests" / f"{_hash(request_id)}.jsonl"

    def _result(self, request_id: str, index: int) -> Path:
        return self.folder / "results" / f"{_hash(request_id)}-{index}"

    def _append(self, lines: list[str], *, sync: bool = False) -> None:
        """Append all lines or, on a full disk, none: half a line would damage the next one."""
        content = "".join(lines).encode()
        with self._appending:  # a request that is cancelled ends while a batch is recorded
            number = self._lines.fileno()
            length = os.fstat(number).st_size
            try:
                while content:
                    content = content[os.write(number, content) :]
                if sync:
                    os.fsync(number)
            except OSError:
                os.ftruncate(number, length)
                raise

    def _read_requests(self) -> None:
        for path in (self.folder / "requests").glob("*.jsonl"):
            try:
                with path.open("rb") as file:
                    progress = Progress(**json.loads(file.readline()))
            except (TypeError, ValueError):
                raise DamagedCheckpoint(
                    f"{path}: this request is damaged: move the file away to go on without it"
                ) from None
            self.requests[progress.id] = progress
            self._sequence = max(self._sequence, progress.sequence)

    def _read_lines(self) -> None:
        """Read the lines. A last one that a kill has torn and those of forgotten requests go."""
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        by_hash = {_hash(request_id): one for request_id, one in self.requests.items()}
        kept = []
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), 1):
            kind, name, index, value, began_s, written_s = self._parse(number, line)
            progress = by_hash.get(name)
            if progress is None:
                continue
            kept.append(f"{line}\n")
            if kind == BEGUN:
                progress.recomputed += index in progress.begun
                progress.begun |= {index}
            elif kind == RECORDED:
                progress.recorded[index] = Recorded(value, began_s, written_s)
            else:
                failure, _, reason = value.partition(":")
                progress.end("" if failure == "done" else failure, reason)
        remaining = "".join(kept).encode()
        if remaining != content:
            _write(self._path, remaining)
            _sync_folder(self.folder)

    def _parse(self, number: int, line: str) -> tuple[str, str, int, str, float, float]:
        parts = line.split(",")
        try:
            kind, name, index, value, began_s, written_s = parts
            if kind not in (BEGUN, RECORDED, ENDED) or (kind == RECORDED and len(value) != 64):
                raise ValueError
            return kind, name, int(index), value, float(began_s), float(written_s)
        except ValueError:
            raise DamagedCheckpoint(
                f"{self._path}: line {number} is damaged: move the folder away to start without "
                "its requests, or restore the file"
            ) from None


def _lock(folder: Path) -> IO[bytes]:
    """Return a file that is locked until it is closed, at the latest by the process's end."""
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise FolderInUse(f"another server uses {folder}: give each a folder of its own") from None
    return file


def _line(
    kind: str,
    request_id: str,
    index: int,
    value: str = "",
    began_s: float = 0.0,
    written_s: float = 0.0,
) -> str:
    return f"{kind},{_hash(request_id)},{index},{value},{began_s:.6f},{written_s:.6f}\n"


def _hash(request_id: str) -> str:
    """Return the name of a request's files: an id never becomes a path."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, readable by its owner alone; its folder is to be synced."""
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:  # a full disk: what could not be written is not to fill it
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
