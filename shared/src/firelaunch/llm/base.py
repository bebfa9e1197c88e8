"""What the gateway asks of a model's provider, and what it tells the meter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypedDict

from .patience import Patience

__all__ = [
    "LEAVING",
    "WAITING",
    "Call",
    "Chunk",
    "Message",
    "Meter",
    "Provider",
    "Shape",
    "Tokens",
    "estimate_tokens",
    "token_bound",
]

_MESSAGE_TOKENS = 8
"""Tokens a chat format adds to a message at most (role and separators; OpenAI's cookbook counts 3 to 4)."""

_CHARACTERS_A_TOKEN = 4
"""Of English text, by OpenAI's rule of thumb (https://platform.openai.com/tokenizer)."""


class Message(TypedDict):
    """One message of a prompt, in the form that chat-completion APIs share."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a call used. ``cached_input`` is the part of ``input`` that the provider had cached.

    ``estimated`` says that the provider did not report the figures and they were derived from the text.
    """

    input: int = 0
    cached_input: int = 0
    output: int = 0
    estimated: bool = False

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached_input + other.cached_input,
            self.output + other.output,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a structured answer is to look like; made in :mod:`.shapes`.

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
class Call:
    """One call of one model. ``patience`` says for how long, and what else may end it."""

    model: str
    messages: Sequence[Message]
    max_output_tokens: int
    patience: Patience
    temperature: float | None = None
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. The last one of a call carries the provider's ``tokens``, where it reports them.

    ``finish`` is the provider's word for why it ended ("stop", "length"), or "refusal" where the model declined.
    """

    text: str = ""
    tokens: Tokens | None = None
    finish: str | None = None


WAITING: Final = Chunk()
"""This very object says that nothing is there yet; see :mod:`.client`."""

LEAVING: Final = Chunk()
"""This very object says that what follows is more than waiting, and not the hub's to do; see :mod:`.client`."""


class Provider(Protocol):
    """A way to reach models. Every method may be called from many threads.

    Raises (both methods): ModelUnavailable and ModelTimeout (another try may help; ``retry_after`` in seconds where the
    provider said so), ModelRefused (it would not), ModelError (this provider is of no use now, another may be).
    """

    name: str

    def complete(self, call: Call) -> Chunk:
        """The whole answer."""

    def stream(self, call: Call) -> Iterator[Chunk]:
        """The answer as it comes. Closing the iterator closes the connection to the provider."""


class Meter(Protocol):
    """Who pays for the calls of one request; the gateway knows no more of billing than this."""

    def cover(self, micro_usd: int) -> None:
        """Make sure that ``micro_usd`` beyond what was spent is reserved.

        Raises:
            BudgetExceeded: the caller's budget does not cover it.
        """

    def spend(self, model: str, tokens: Tokens, micro_usd: int) -> None:
        """Take down one call's use."""

    def reuse(self, model: str) -> None:
        """Take down an answer of ``model`` that was kept from an earlier call, and costs nothing."""


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` is, for calls whose provider did not say."""
    return -(-len(text) // _CHARACTERS_A_TOKEN)


def token_bound(messages: Sequence[Message], shape: Shape | None = None) -> int:
    """No fewer tokens than any tokenizer makes of ``messages``: a token stands for at least one byte of UTF-8."""
    texts = [message["content"] for message in messages] + ([shape.text] if shape else [])
    return sum(len(text.encode("utf-8", "replace")) + _MESSAGE_TOKENS for text in texts)
