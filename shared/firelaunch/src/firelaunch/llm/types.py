"""The types between the gateway, a model's provider and the meter."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, NotRequired, Protocol, TypedDict

from ..telemetry.spans import SPAN, Span
from .attachments import Attachment
from .deadline import Deadline
from .finish import Finish
from .thinking import Effort

__all__ = [
    "LEAVING",
    "MADE_ID",
    "WAITING",
    "Approvals",
    "CallPart",
    "Chunk",
    "FinishedCall",
    "HeldCalls",
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
    "WholeChunk",
    "audio_bound",
    "text_bound",
    "token_bound",
]

MADE_ID: Final = "call_made_"
"""Prefix of the id of a tool call that came without one."""

_MESSAGE_TOKENS = 8
"""The most tokens that a chat format adds to a message (role, separators; OpenAI's cookbook counts 3 to 4)."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's call of a tool.

    Attributes:
        id: identifies the call in the message with the tool's result.
        arguments: JSON, as the model wrote it; it may be invalid.
        signature: an opaque value that some models (Gemini 3, Claude) need back, unchanged, with the result.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


class Message(TypedDict):
    """One message of a prompt.

    ``attachments`` are a user's files. ``calls`` are an assistant's tool calls. ``call_id`` and ``name`` say which call
    a tool's message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    attachments: NotRequired[Sequence[Attachment]]
    calls: NotRequired[Sequence[ToolCall]]
    call_id: NotRequired[str]
    name: NotRequired[str]


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens that a call used.

    Attributes:
        input: the prompt's, including the next two.
        cached_input: the part of the prompt that the provider read from its cache, at its own price.
        cache_write: the part of the prompt that the provider wrote to its cache, at its own price.
        output: the answer's, including the next one.
        reasoning: the part of the answer's that the model used to think, if the provider tells it apart.
        estimated: whether the provider did not report all of them, so that some are upper bounds computed from the
            text.
        searches: the web searches that the provider made for the answer, each at a price of its own.
        audio: the part of the prompt that is recordings, at a price of its own.
        cached_audio: the part of the recordings that the provider read from its cache.
    """

    input: int = 0
    cached_input: int = 0
    output: int = 0
    estimated: bool = False
    cache_write: int = 0
    reasoning: int = 0
    searches: int = 0
    audio: int = 0
    cached_audio: int = 0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.input + other.input,
            self.cached_input + other.cached_input,
            self.output + other.output,
            self.estimated or other.estimated,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
            self.searches + other.searches,
            self.audio + other.audio,
            self.cached_audio + other.cached_audio,
        )

    def at_least(self, other: TokenCounts | None) -> TokenCounts:
        """Return the larger of each figure of two reports on one call, because usage never decreases."""
        if other is None:
            return self
        return TokenCounts(
            max(self.input, other.input),
            max(self.cached_input, other.cached_input),
            max(self.output, other.output),
            self.estimated or other.estimated,
            max(self.cache_write, other.cache_write),
            max(self.reasoning, other.reasoning),
            max(self.searches, other.searches),
            max(self.audio, other.audio),
            max(self.cached_audio, other.cached_audio),
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a structured answer; :mod:`firelaunch.llm.shapes` builds it.

    Attributes:
        name: 1 to 64 letters, digits, "_" and "-".
        schema: the original JSON schema; the answer is checked against it.
        strict: the schema in the form of providers' strict modes.
    """

    name: str
    schema: Mapping[str, Any]
    strict: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The JSON that is sent to the provider, which counts it as input."""
        return json.dumps(self.strict)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool's description for a model.

    Attributes:
        parameters: the JSON schema of the arguments.
        strict: whether the schema has the form of providers' strict modes.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = True

    @property
    def text(self) -> str:
        """The JSON that is sent to the provider, which counts it as input."""
        return json.dumps([self.name, self.description, self.parameters])


@dataclass(frozen=True, slots=True)
class HeldCalls:
    """Calls that wait for a person, with what an answer needs to go on after them.

    Attributes:
        messages: those of the model's steps so far, from the first that called a tool on.
        calls: the calls that wait; their results are missing from ``messages``.
        steps: the number of steps so far.
    """

    messages: tuple[Message, ...]
    calls: tuple[ToolCall, ...]
    steps: int


class Approvals(Protocol):
    """What a person has decided on the held calls of an answer. Any instance may be asked, any number of times."""

    @property
    def held(self) -> HeldCalls:
        """The calls."""

    def approved(self, call: ToolCall) -> bool:
        """Return whether the user has approved ``call``."""

    def reason(self, call: ToolCall) -> str:
        """Return the user's reason for refusing ``call``; it may be empty."""

    def claim(self, call: ToolCall) -> tuple[bool, str | None]:
        """Claim the right to run ``call``, which is given once.

        Returns:
            whether to run it, and otherwise the result that an earlier run had, if that is known.
        """

    def keep(self, call: ToolCall, result: str) -> None:
        """Keep the result of a call that ran, for another try of this answer."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of one model, which ``deadline`` ends.

    With ``may_call`` False, the model may not call ``tools``; they are only there to explain earlier messages. With
    ``must_call`` it has to call one.

    Attributes:
        max_output_tokens: the most tokens of the answer.
        thinking_tokens: the most tokens, in addition, of what the model thinks before.
        effort: how much the model should think; None for the model's default.
        show_thinking: whether the provider should tell what the model thinks.
        searches: the web searches that are reserved; 0 if the model may not search. Providers that can't, don't.
    """

    model: str
    messages: Sequence[Message]
    max_output_tokens: int
    deadline: Deadline
    temperature: float | None = None
    shape: Shape | None = None
    tools: Sequence[ToolSpec] = ()
    may_call: bool = True
    must_call: bool = False
    thinking_tokens: int = 0
    effort: Effort | None = None
    show_thinking: bool = False
    searches: int = 0

    @property
    def tool_choice(self) -> Literal["auto", "none", "required"]:
        """The choice of tools in OpenAI's words."""
        return "none" if not self.may_call else "required" if self.must_call else "auto"

    @property
    def most_tokens(self) -> int:
        """The limit to send to the provider, which counts thinking as output."""
        return self.max_output_tokens + self.thinking_tokens


@dataclass(frozen=True, slots=True)
class CallPart:
    """A streamed piece of a tool call.

    ``arguments`` continue those of the earlier parts with the same ``index``.
    """

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The start of a tool call (``done`` is False), or its end with a result or an error.

    ``input`` and ``output`` are JSON values. ``error`` is a short constant such as "timeout". A call that ``waits``
    has started but does not run until a person approves it.
    """

    id: str
    name: str
    input: Any = None
    output: Any = None
    error: str | None = None
    done: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A source of an answer, in a chunk of its own before, between or after the pieces of text.

    Args:
        id: the app's own, up to 64 letters, digits, "_" and "-"; unique within one answer.
        title: shown to people.
        url: where people can read it; None for a document of the app's.
        media_type, filename: of a document.
    """

    id: str
    title: str
    url: str | None = None
    media_type: str = "text/plain"
    filename: str | None = None

    def view(self) -> dict[str, str]:
        """Return the source as clients see it, without unknown values."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        tokens: what the call has used so far, if the provider reports it; a provider may report it more than once.
        finish: how the answer ended, in its last chunk.
        source: a source of the app's, for the reader of the answer.
    """

    text: str = ""
    tokens: TokenCounts | None = None
    finish: Finish | None = None
    source: Source | None = None

    # Few chunks have these, and no app sets them. As fields, they would make creating each chunk a third slower.

    @property
    def parts(self) -> tuple[CallPart, ...]:
        """Pieces of tool calls, from the provider."""
        return ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Whole tool calls, from the gateway."""
        return ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the model found on the web, from the provider; the gateway passes each on as ``source``."""
        return ()

    @property
    def tool(self) -> ToolUse | None:
        """The start or end of a tool call, for the reader of the answer."""
        return None

    @property
    def thought(self) -> str:
        """What the model thinks aloud, charged as output but no part of the answer; before ``text`` in one chunk.

        The gateway passes it on only if the settings show it to users.
        """
        return ""


@dataclass(frozen=True, slots=True)
class ToolChunk(Chunk):
    """A chunk that holds more than text."""

    parts: tuple[CallPart, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    tool: ToolUse | None = None
    thought: str = ""
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class WholeChunk(ToolChunk):
    """The whole answer once more, or its last piece: servers differ in what ``message`` is at the end of a stream."""

    def after(self, text: str) -> Chunk:
        """Return what is new of it after ``text``."""
        if self.text.startswith(text):
            new = self.text.removeprefix(text)
        else:
            new = "" if text.endswith(self.text) else self.text
        return ToolChunk(new, self.tokens, self.finish, parts=self.parts, thought="" if text else self.thought)


@dataclass(frozen=True, slots=True)
class Passed(Chunk):
    """Text that the stream loop has shown to the reader already; see :mod:`firelaunch.llm.client_connection`."""


WAITING: Final = Chunk()
"""Marks that a stream waits for its provider. Compared by identity; see :mod:`firelaunch.llm.client_connection`."""

LEAVING: Final = Chunk()
"""Marks that a stream stops only waiting and will do work, so that the stream loop hands it to a thread.

Compared by identity. :mod:`firelaunch.llm.client_connection` explains who waits where.
"""


class Provider(Protocol):
    """A provider of models. Every method may be called from many threads.

    Raises (both methods):
        ModelUnavailable, ModelTimeout: another try may help; ``retry_after`` in seconds if the provider said so.
        ModelRefused: another try would not help.
        ModelError: this provider is of no use now, another may be.
    """

    name: str

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer."""

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives. Closing the iterator closes the connection to the provider."""


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """One call of a model that has ended, for its bill and its record.

    Attributes:
        tokens: what it is charged for; none if the provider refused or failed before it said anything.
        seconds: from the call's start to its end.
        first_token_seconds: from the start to the first piece of a stream; None if the answer came whole, or never.
        purpose: what the call was for, such as "turn" or "classify".
        prompt: the prompt's ``name@version``; None if the workflow used none.
        step: the number of the step within its request, from 1. A step's retries and fallbacks share its number.
        finish: how the answer ended, as in :class:`Chunk`.
        error: the code of what ended the call instead; "stopped" if its reader left.
        operation: "chat", "embeddings" or "rerank".
        provider: who answered, by the name of :class:`Provider`.
        asked, answered: the call's contents, if telemetry may have them. They are in no record.
        ended_at: nanoseconds since 1970.
        span: what the call was a part of.
    """

    model: str
    tokens: TokenCounts
    micro_usd: int
    seconds: float
    first_token_seconds: float | None = None
    purpose: str = ""
    prompt: str | None = None
    step: int = 1
    finish: Finish | None = None
    error: str | None = None
    operation: str = "chat"
    provider: str = ""
    asked: Sequence[Message] = field(default=(), repr=False, compare=False)
    answered: str = field(default="", repr=False, compare=False)
    ended_at: int = field(default_factory=time.time_ns, repr=False, compare=False)
    span: Span | None = field(default_factory=SPAN.get, repr=False, compare=False)

    @property
    def charged(self) -> bool:
        """Whether the provider charges for the call: for its tokens, or for the call as such."""
        return self.micro_usd > 0 or self.tokens != TokenCounts()


class Meter(Protocol):
    """The account that pays for the calls of one request. The gateway knows nothing else about billing.

    A workflow's tools may call models side by side, so every method may be called from many threads.
    """

    def cover(self, micro_usd: int) -> None:
        """Set ``micro_usd`` aside for the next call, beyond what has been spent or is set aside for other calls.

        Raises:
            BudgetExceeded: the caller's budget does not cover it.
        """

    def release(self, micro_usd: int) -> None:
        """Give back what :meth:`cover` set aside, after the call has ended."""

    def spend(self, call: FinishedCall) -> None:
        """Book one call."""

    def reuse(self, model: str) -> None:
        """Record that a cached answer of ``model`` was used, which costs nothing."""


def text_bound(text: str) -> int:
    """Return an upper bound of the tokens in ``text``: its bytes in UTF-8, since a token stands for at least one byte.

    The bound holds for byte-level BPE (OpenAI's o200k and cl100k) and for SentencePiece with byte fallback (Llama's).
    No smaller bound holds, because rare Han characters and digits can take one token a byte. docs/metering.md has
    figures.
    """
    return len(text.encode("utf-8", "replace"))


def token_bound(messages: Sequence[Message], shape: Shape | None = None, tools: Sequence[ToolSpec] = ()) -> int:
    """Return an upper bound of the tokens that any provider counts for a request."""
    files = sum(each.tokens + _MESSAGE_TOKENS for message in messages for each in message.get("attachments", ()))
    texts = sum(text_bound(text) + _MESSAGE_TOKENS for text in _request_texts(messages, shape, tools))
    return texts + files


def audio_bound(messages: Sequence[Message]) -> int:
    """Return an upper bound of the tokens in the messages' recordings, which :func:`token_bound` counts too."""
    files = (each for message in messages for each in message.get("attachments", ()))
    return sum(each.tokens for each in files if each.kind == "audio")


def _request_texts(messages: Sequence[Message], shape: Shape | None, tools: Sequence[ToolSpec]) -> list[str]:
    texts = [message["content"] for message in messages]
    texts += [call.name + call.arguments for message in messages for call in message.get("calls", ())]
    return texts + ([shape.text] if shape else []) + [tool.text for tool in tools]
