"""The lines of a transcript as they are read back: whole ones only, and each of them checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from controller.agents.chat import Completion, ToolCall
from controller.domain.decisions import TIERS
from controller.domain.errors import InputError

FORMAT: Final = 1

Key = tuple[int, str, str, int]


class _Line(BaseModel):
    """The fields of a line that reading needs; it may have more."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    def place(self) -> tuple[Any, ...]:
        """Return its key in an order that does not depend on which call ended first."""
        return (0, "")


class HeadLine(_Line):
    """The reasoner and the templates that the calls were made with."""

    kind: Literal["head"]
    format: Literal[1]


class TextLine(_Line):
    """A text, which later lines refer to by its digest."""

    kind: Literal["text"]
    sha256: str
    content: str

    def place(self) -> tuple[Any, ...]:
        return (1, self.sha256)


class _Reply(_Line):
    content: str
    finish: str
    refusal: str
    model: str
    error: str
    late: bool
    tool_calls: tuple[ToolCall, ...] = ()
    reasoned: bool = False


class CallLine(_Line):
    """A question, by its digest, and what came back."""

    kind: Literal["call"]
    slot: int
    tier: Literal["planner", "scheduler", "deployer"]
    node: str | None
    round: int
    asked: str
    reply: _Reply
    took_s: float
    tokens_in: int | None
    tokens_cached: int
    tokens_out: int | None
    cost_usd: float | None
    attempts: int

    @property
    def key(self) -> Key:
        return self.slot, self.tier, self.node or "", self.round

    def place(self) -> tuple[Any, ...]:
        return (2, "", self.slot, TIERS.index(self.tier), self.node or "", self.round)

    def completion(self) -> Completion:
        reply = self.reply
        return Completion(
            content=reply.content,
            took_s=self.took_s,
            finish=reply.finish,
            refusal=reply.refusal,
            tool_calls=reply.tool_calls,
            model=reply.model,
            tokens_in=self.tokens_in,
            tokens_cached=self.tokens_cached,
            tokens_out=self.tokens_out,
            cost_usd=self.cost_usd,
            attempts=self.attempts,
            error=reply.error,
            late=reply.late,
            reasoned=reply.reasoned,
        )


class NoteLine(_Line):
    """Note of something that the server does not understand, and of the way it is asked instead."""

    kind: Literal["note"]
    text: str

    def place(self) -> tuple[Any, ...]:
        return (1, "note", self.text)


class ApprovalLine(_Line):
    """A person's verdict on the policy of a slot."""

    kind: Literal["approval"]
    slot: int
    approved: bool

    def place(self) -> tuple[Any, ...]:
        return (2, "", self.slot, -1, "", 0)


Line = HeadLine | TextLine | NoteLine | CallLine | ApprovalLine
_LINE: Final[TypeAdapter[Line]] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


def whole_lines(content: bytes) -> list[str]:
    """Return the whole lines of a file. A kill may have cut the last one short, even within a
    letter; that one is left out.

    Raises:
        InputError: another line is no text.
    """
    found = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            found.append(line.decode() + "\n")
        except UnicodeDecodeError as error:
            raise _no_line(number, str(error)) from error
    return found


def read_lines(lines: Iterable[str]) -> Iterator[tuple[str, Line]]:
    """Yield lines with their parsed content; a last one that is cut short is left out.

    Raises:
        InputError: a line is no line of a transcript of this format.
    """
    for number, text in enumerate(lines, start=1):
        if not text.endswith("\n"):
            return  # a kill in the middle of a write
        try:
            yield text, _LINE.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            problem = f"{where}: {first['msg']}" if where else first["msg"]
            raise _no_line(number, problem) from error


def notes_of(lines: Iterable[str]) -> list[str]:
    """Return the texts of the notes, each once, in order."""
    return sorted({line.text for _, line in read_lines(lines) if isinstance(line, NoteLine)})


def sorted_lines(lines: Iterable[str]) -> list[str]:
    """Return the head, then texts by digest, notes, calls by slot, tier, node and round."""
    placed = [(line.place(), text) for text, line in read_lines(lines)]
    return [text for _, text in sorted(placed, key=lambda one: one[0])]


def _no_line(number: int, problem: str) -> InputError:
    return InputError(
        "transcript.jsonl", f"line {number} is no line of a transcript: {problem}",
        remedy="remove the file; the run's calls are then made anew",
    )  # fmt: skip
