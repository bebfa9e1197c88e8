"""What a stream's events have in common, so that those of the same form are read without parsing all of them.

Nearly all events of a stream differ in a word of text alone; around it are some hundred bytes of the same JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from .base import Chunk

__all__ = ["Pattern"]

_OTHER = "\0 another text"
"""What no provider says, to see that what follows from an event's text is the chunk's text."""

_PADDING = b'"obfuscation":"'
"""OpenAI's last field: characters by which all events are of a length, and nobody learns from the wire what is said
(https://platform.openai.com/docs/api-reference/chat/create, ``stream_options``)."""

_TRIES = 8
"""Events in a row that do not have the form of the one before; then the stream is taken for one without any."""


class Pattern:
    """The bytes before and after the text in the events of one stream.

    Args:
        parse: makes a chunk of an event's JSON.
    """

    def __init__(self, parse: Callable[[dict[str, Any]], Chunk]) -> None:
        self._parse = parse
        self._before = b""
        self._after = b""
        self._padded = False
        self._tries = 0

    def text(self, event: bytes) -> str | None:
        """The text of an event that says this and no more; None where it has to be parsed."""
        before, after = self._before, self._after
        if not before or not event.startswith(before):
            return None
        if not self._padded:
            if not event.endswith(after):
                return None
            value = event[len(before) : -len(after)]
        else:
            value, found, padding = event[len(before) :].partition(after)
            if not found or padding.find(b'"') != len(padding) - 2 or padding[-1:] != b"}" or b"\\" in padding:
                return None
        try:
            # Nothing but this one value differs from an event that was parsed.
            text = from_json(value)
        except ValueError:
            return None
        if type(text) is not str:
            return None
        self._tries = 0
        return text

    def learn(self, event: bytes, chunk: Chunk) -> None:
        """Take the form of an event and of its chunk, if it is certain where the text is."""
        if self._tries == _TRIES or not chunk.text or chunk != Chunk(chunk.text):
            return
        self._tries += 1
        for value in (json.dumps(chunk.text, ensure_ascii=escaped).encode() for escaped in (False, True)):
            before, found, after = event.partition(value)
            if found and self._is_text(before, after):
                after, padding, _ = after.partition(_PADDING)
                self._before, self._after, self._padded = before, after + padding, bool(padding)
                return

    def _is_text(self, before: bytes, after: bytes) -> bool:
        try:
            return self._parse(from_json(before + json.dumps(_OTHER).encode() + after)) == Chunk(_OTHER)
        except (AttributeError, LookupError, TypeError, ValueError):
            return False
