"""Files in users' messages, as models get them: images, PDFs, recordings and texts.

A text goes into the message's own text, so every model takes it. For the others :data:`OWN_TABLE` says which of a
provider's models take what. docs/models.md shows the same table with the sources.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from .claude_models import is_claude

__all__ = [
    "AUDIO_TOKENS_A_SECOND",
    "IMAGE_TOKENS",
    "KINDS",
    "MEDIA_TYPES",
    "PAGE_TOKENS",
    "Attachment",
    "Kind",
    "Takes",
    "kind_of",
    "takes_all",
    "takes_of",
]

Kind = Literal["image", "pdf", "audio", "text"]

MEDIA_TYPES: Final[dict[Kind, tuple[str, ...]]] = {
    "image": ("image/png", "image/jpeg", "image/webp"),
    "pdf": ("application/pdf",),
    "audio": ("audio/wav", "audio/mpeg"),
    "text": ("text/plain", "text/markdown", "text/csv"),
}
"""The types that a message takes. Of images and recordings they are those that all providers of the kind take, and of
recordings those whose length their bytes tell."""

KINDS: Final[dict[str, Kind]] = {media_type: kind for kind, types in MEDIA_TYPES.items() for media_type in types}

IMAGE_TOKENS: Final = 16_384
"""The most tokens that a provider counts for an image: Qwen's vision models count most, and OpenAI's, Gemini's and
Claude's stay below 7,000 (https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct#image-resolution-for-performance-boost)."""

PAGE_TOKENS: Final = 8_192
"""The most tokens that a provider counts for a page of a PDF, beside one for each byte of its text. OpenAI and Claude
show a model the page's image and its text, so this is an image's of theirs (below 7,000) and room for how they lay out
the text. Gemini counts 258 to 1,120 (https://ai.google.dev/gemini-api/docs/media-resolution)."""

AUDIO_TOKENS_A_SECOND: Final = 32
"""The most tokens that a provider counts for a second of a recording: Gemini's
(https://ai.google.dev/gemini-api/docs/audio). OpenAI counts 10
(https://developers.openai.com/api/docs/guides/realtime-costs)."""

Takes = Callable[[str, Kind], bool]
"""Returns whether the model of a name takes files of a kind."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Attachment:
    """A file in a user's message.

    Attributes:
        media_type: one of :data:`MEDIA_TYPES`.
        name: the file's name, which some models are told.
        tokens: the most tokens that a provider counts for it.
        pages: of a PDF; 0 for other files.
    """

    media_type: str
    data: bytes = field(repr=False)
    name: str = ""
    tokens: int = IMAGE_TOKENS
    pages: int = 0

    @property
    def kind(self) -> Kind:
        """The kind: an image, a PDF, a recording or a text."""
        return KINDS.get(self.media_type, "image")

    @property
    def base64(self) -> str:
        """The data in Base64."""
        return b64encode(self.data).decode()

    @property
    def data_url(self) -> str:
        """The data as a ``data:`` URL."""
        return f"data:{self.media_type};base64,{self.base64}"

    @property
    def pdf_name(self) -> str:
        """A PDF's name, with the ending by which OpenAI knows a file's type."""
        name = self.name or "file"
        return name if name.lower().endswith(".pdf") else f"{name}.pdf"

    @property
    def text(self) -> str:
        """A text file as a part of its message's text: its name, and its content between two lines.

        The lines are longer than any in the content, so that the content can't end early.
        """
        content = self.data.decode("utf-8-sig", "replace")
        longest = max(map(len, re.findall(r"^`{3,}", content, re.MULTILINE)), default=2)
        fence = "`" * (longest + 1)
        name = " ".join(self.name.split())
        return f"{name or 'A file'}:\n{fence}\n{content.rstrip()}\n{fence}"


def kind_of(media_type: str) -> Kind | None:
    """Return the kind of a media type; None if a message takes no such file."""
    return KINDS.get(media_type)


OWN_TABLE: Final[tuple[tuple[str, re.Pattern[str], frozenset[Kind]], ...]] = (
    ("openai", re.compile(r"gpt-audio|gpt-4o(?:-mini)?-audio"), frozenset({"audio"})),
    # It takes images, but counts up to 48,169 tokens for one: 2,833 and 5,667 for each of 8 tiles
    # (https://developers.openai.com/api/docs/guides/images-vision). That is more than IMAGE_TOKENS.
    ("openai", re.compile(r"gpt-4o-mini"), frozenset()),
    ("openai", re.compile(r"gpt-3\.5|gpt-4(?:-\d{4}|$)|o1-mini|o1-preview|o3-mini"), frozenset()),
    ("openai", re.compile(r""), frozenset({"image", "pdf"})),
    ("vertex", re.compile(r""), frozenset({"image", "pdf", "audio"})),
    ("claude", re.compile(r""), frozenset({"image", "pdf"})),
    ("offline", re.compile(r""), frozenset({"image", "pdf", "audio"})),
)
"""The kinds of files that models take, by provider and the beginning of their names. The first row that fits counts."""


def takes_of(
    provider: str, *, has_audio_price: Callable[[str], bool], own_server: Collection[str] | None = None
) -> Takes:
    """Return what the models of a provider take.

    Args:
        provider: "openai", "vertex", "claude" or "offline".
        has_audio_price: returns whether a model's price for recordings is known. OpenAI's are many times a text's, so
            a model without one takes none: its answers could cost more than is reserved.
        own_server: what another server than OpenAI's takes, as the settings say; None for OpenAI's own.
    """

    def takes(model: str, kind: Kind) -> bool:
        if kind == "text":
            return True
        if own_server is not None:
            return kind in own_server
        service = "claude" if is_claude(model) else provider
        kinds = next(kinds for owner, names, kinds in OWN_TABLE if owner == service and names.match(model))
        return kind in kinds and (kind != "audio" or service != "openai" or has_audio_price(model))

    return takes


def takes_all(takes: Takes, model: str, kinds: Iterable[Kind]) -> bool:
    """Return whether a model takes files of all of ``kinds``."""
    return all(takes(model, kind) for kind in kinds)
