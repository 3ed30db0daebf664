"""Bodies of calls, as far as they are honoured; limits are those of the LM servers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_PROMPTS: Final = 8  # of a request, K_q
MOST_TEXT: Final = 32_768  # characters of a prompt
MOST_TOKENS: Final = 4096
MOST_SIDE: Final = 2048  # pixels
SIDE_STEP: Final = 8
MOST_STEPS: Final = 200
MOST_MESSAGES: Final = 256
DEFAULT_TOKENS: Final = 100

Text = Annotated[str, Field(max_length=MOST_TEXT)]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class Body(BaseModel):
    """Base of all: nothing but its own fields, each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Body):
    """Options of an answer in pieces."""

    include_usage: bool = False
    include_obfuscation: bool = False  # never: texts come whole


class ChatMessage(Body):
    """One message. What an assistant's message has beside its content must be empty, as clients
    send it back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[dict[str, Any]] | None = None
    name: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    annotations: list[Any] | None = None


class TextBody(Body):
    """Fields that chats and completions share."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    n: Annotated[int, Field(ge=1, le=MOST_PROMPTS)] = 1
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ChatBody(TextBody):
    """Body of a chat completion."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = None


class CompletionBody(TextBody):
    """Body of a completion."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]


class ImageBody(Body):
    """Body of an image generation. ``seed`` and ``steps`` are no fields of OpenAI's."""

    prompt: Annotated[Text, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_PROMPTS)] = 1
    size: Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$")] = "auto"
    seed: Seed | None = None
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
