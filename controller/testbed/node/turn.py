"""Turn of the machine: one event, and what follows from it."""

from __future__ import annotations

from controller.testbed.node.instructions import Instruction


class Turn:
    """Time of an event, and the instructions that it leads to.

    ``changed`` is True once the state that must survive a restart has changed.
    """

    __slots__ = ("changed", "forgotten", "instructions", "time_s")

    def __init__(self, time_s: float) -> None:
        self.time_s = time_s
        self.instructions: list[Instruction] = []
        self.changed = False
        self.forgotten: list[int] = []

    def forget(self, request_id: int) -> None:
        """Note that one role of this node is done with a request."""
        self.forgotten.append(request_id)

    def emit(self, instruction: Instruction) -> None:
        self.instructions.append(instruction)


class Repeats:
    """Times at which unconfirmed instructions are issued again, doubling up to a limit.

    Not durable: after a restart all of them are due at once.
    """

    __slots__ = ("_due_s", "_first_s", "_limit_s", "_pause_s")

    def __init__(self, first_s: float, limit_s: float) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._due_s: dict[int, float] = {}
        self._pause_s: dict[int, float] = {}

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._due_s

    def pending(self) -> list[int]:
        return list(self._due_s)

    def begin(self, request_id: int) -> None:
        """Let the instruction be due at once."""
        self._due_s[request_id] = float("-inf")
        self._pause_s[request_id] = self._first_s

    def hold(self, request_id: int, until_s: float) -> None:
        """Let the instruction wait, as its receiver asked."""
        self._due_s[request_id] = until_s

    def end(self, request_id: int) -> None:
        self._due_s.pop(request_id, None)
        self._pause_s.pop(request_id, None)

    def take(self, time_s: float) -> list[int]:
        """Return what is due and set the time of its next repetition."""
        due = [key for key, due_s in self._due_s.items() if due_s <= time_s]
        for key in due:
            pause_s = self._pause_s[key]
            self._due_s[key] = time_s + pause_s
            self._pause_s[key] = min(2 * pause_s, self._limit_s)
        return due

    def restart(self) -> None:
        for key in list(self._due_s):
            self.begin(key)

    def next_s(self) -> float:
        return min(self._due_s.values(), default=float("inf"))
