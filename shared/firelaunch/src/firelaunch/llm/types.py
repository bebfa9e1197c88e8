"""What the gateway asks of a model's provider, and what it tells the meter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NotRequired, Protocol, TypedDict

from .deadline import Deadline
from .thinking import Effort

__all__ = [
    "LEAVING",
    "MADE_ID",
    "WAITING",
    "CallPart",
    "Chunk",
    "Message",
    "Meter",
    "ModelCall",
    "Passed",
    "Provider",
    "Shape",
    "Source",
    "TokenCounts",
    "ToolCall",
    "ToolChunk",
    "ToolSpec",
    "ToolUse",
    "text_bound",
    "token_bound",
]

MADE_ID: Final = "call_made_"
"""Begins the id of a tool call that came without one."""

_MESSAGE_TOKENS = 8
"""Tokens a chat format adds to a message at most (role and separators; OpenAI's cookbook counts 3 to 4)."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks of a tool.

    Attributes:
        id: what the result is to be told under.
        arguments: JSON, as the model wrote it; perhaps none.
        signature: the model's own word on why, which some models (Gemini 3) want back unchanged with the result.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


class Message(TypedDict):
    """One message of a prompt. ``calls`` are an assistant's; ``call_id`` and ``name`` say what a tool's answers."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: NotRequired[Sequence[ToolCall]]
    call_id: NotRequired[str]
    name: NotRequired[str]


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a call used, in tokens.

    Attributes:
        input: the prompt's; ``cached_input`` and ``cache_write`` are the parts of it that the provider had cached and
            that it has put into its cache, each at a price of its own.
        output: the answer's, with what the model thought.
        estimated: whether the provider did not report all of it, and the rest is a bound made from the text.
    """

    input: int = 0
    cached_input: int = 0
    output: int = 0
    estimated: bool = False
    cache_write: int = 0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.input + other.input,
            self.cached_input + other.cached_input,
            self.output + other.output,
            self.estimated or other.estimated,
            self.cache_write + other.cache_write,
        )

    def at_least(self, other: TokenCounts | None) -> TokenCounts:
        """The larger of each figure of two reports on one call: what was used does not become less."""
        if other is None:
            return self
        return TokenCounts(
            max(self.input, other.input),
            max(self.cached_input, other.cached_input),
            max(self.output, other.output),
            self.estimated or other.estimated,
            max(self.cache_write, other.cache_write),
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a structured answer is to look like; made in :mod:`firelaunch.llm.shapes`.

    Attributes:
        name: 1 to 64 letters, digits, "_" and "-".
        schema: the JSON schema as it was given; it is what the answer is checked against.
        strict: the same for providers' strict modes.
    """

    name: str
    schema: Mapping[str, Any]
    strict: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What is sent of it, which the provider counts as input."""
        return json.dumps(self.strict)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it. ``parameters`` is a JSON schema for strict modes."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What is sent of it, which the provider counts as input."""
        return json.dumps([self.name, self.description, self.parameters])


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of one model. ``patience`` says for how long, and what else may end it.

    With ``may_call`` False the ``tools`` are there for what was said before, and none may be asked for.

    Attributes:
        max_output_tokens: of the answer; ``thinking_tokens`` come on top for what the model thinks before.
        effort: how much it is to think; None for its own default.
    """

    model: str
    messages: Sequence[Message]
    max_output_tokens: int
    patience: Deadline
    temperature: float | None = None
    shape: Shape | None = None
    tools: Sequence[ToolSpec] = ()
    may_call: bool = True
    thinking_tokens: int = 0
    effort: Effort | None = None

    @property
    def most_tokens(self) -> int:
        """The limit that the provider is told: it counts what the model thinks, too."""
        return self.max_output_tokens + self.thinking_tokens


@dataclass(frozen=True, slots=True)
class CallPart:
    """A piece of a tool call, as a stream has it: ``arguments`` go on where those of the same ``index`` ended."""

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool is called (``done`` is False), or has given its result, or an error: a short constant such as "timeout".

    ``input`` and ``output`` are JSON values.
    """

    id: str
    name: str
    input: Any = None
    output: Any = None
    error: str | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer rests on, in a chunk of its own: before, between or after the pieces of text.

    Args:
        id: the app's own, up to 64 letters, digits, "_" and "-"; unique in one answer.
        title: for people.
        url: where it is to be read; None for a document of the app's.
        media_type, filename: of a document.
    """

    id: str
    title: str
    url: str | None = None
    media_type: str = "text/plain"
    filename: str | None = None

    def view(self) -> dict[str, str]:
        """As clients see it, without what is not known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        tokens: what the call has used until now, where the provider reports it; it may do so more than once.
        finish: the provider's word for why it ended ("stop", "length"), or "refusal" where the model declined.
        source: the app's own, for whoever reads the answer.
    """

    text: str = ""
    tokens: TokenCounts | None = None
    finish: str | None = None
    source: Source | None = None

    # Of few chunks, and no app's to make; as fields they would make each chunk a third slower to make.

    @property
    def parts(self) -> tuple[CallPart, ...]:
        """Pieces of tool calls, from the provider."""
        return ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The same, whole, from the gateway."""
        return ()

    @property
    def tool(self) -> ToolUse | None:
        """What happens with a tool, for whoever reads the answer."""
        return None

    @property
    def thought(self) -> str:
        """What the model thinks aloud, from the provider: output that is paid, and no part of the answer."""
        return ""


@dataclass(frozen=True, slots=True)
class ToolChunk(Chunk):
    """A chunk that has to do with more than text."""

    parts: tuple[CallPart, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    tool: ToolUse | None = None
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Passed(Chunk):
    """Text that its reader has been shown already, by the hub; see :mod:`firelaunch.llm.client_connection`."""


WAITING: Final = Chunk()
"""This very object says that nothing is there yet; see :mod:`firelaunch.llm.client_connection`."""

LEAVING: Final = Chunk()
"""Marks that a stream leaves pure waiting, so that the stream loop hands it to a thread.

Compared by identity. :mod:`firelaunch.llm.client_connection` explains who waits where.
"""


class Provider(Protocol):
    """A way to reach models. Every method may be called from many threads.

    Raises (both methods): ModelUnavailable and ModelTimeout (another try may help; ``retry_after`` in seconds where the
    provider said so), ModelRefused (it would not), ModelError (this provider is of no use now, another may be).
    """

    name: str

    def complete(self, call: ModelCall) -> Chunk:
        """The whole answer."""

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """The answer as it comes. Closing the iterator closes the connection to the provider."""


class Meter(Protocol):
    """Who pays for the calls of one request; the gateway knows no more of billing than this."""

    def cover(self, micro_usd: int) -> None:
        """Make sure that ``micro_usd`` beyond what was spent is reserved.

        Raises:
            BudgetExceeded: the caller's budget does not cover it.
        """

    def spend(self, model: str, tokens: TokenCounts, micro_usd: int) -> None:
        """Take down one call's use."""

    def reuse(self, model: str) -> None:
        """Take down an answer of ``model`` that was kept from an earlier call, and costs nothing."""


def text_bound(text: str) -> int:
    """No fewer tokens than any tokenizer makes of ``text``: a token stands for at least one byte of UTF-8.

    That holds for byte-level BPE (OpenAI's o200k and cl100k) and for SentencePiece with byte fallback (Llama's), and
    there is no smaller bound: rare Han characters and digits do come to a token a byte. docs/metering.md has figures.
    """
    return len(text.encode("utf-8", "replace"))


def token_bound(messages: Sequence[Message], shape: Shape | None = None, tools: Sequence[ToolSpec] = ()) -> int:
    """No fewer tokens than any provider counts for what is sent."""
    return sum(text_bound(text) + _MESSAGE_TOKENS for text in _sent(messages, shape, tools))


def _sent(messages: Sequence[Message], shape: Shape | None, tools: Sequence[ToolSpec]) -> list[str]:
    texts = [message["content"] for message in messages]
    texts += [call.name + call.arguments for message in messages for call in message.get("calls", ())]
    return texts + ([shape.text] if shape else []) + [tool.text for tool in tools]
