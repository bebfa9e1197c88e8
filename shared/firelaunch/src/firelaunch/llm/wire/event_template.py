"""Learn the form of a stream's events, to read events of the same form without parsing their JSON.

Nearly all events of a stream differ in a word of text, or of a thought, only, which stands in some hundred bytes of the
same JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from ..types import Chunk, ToolChunk

__all__ = ["Pattern"]

_OTHER = "\0 another text"
"""A text that no provider sends, to check that the text in an event becomes the text of the chunk."""

_PADDING = b'"obfuscation":"'
"""OpenAI's last field: filler that gives all events the same length, so that sizes do not reveal the text.

Source: https://platform.openai.com/docs/api-reference/chat/create, ``stream_options``.
"""

_SPACED = re.compile(rb'"\} *\}')
"""What follows the text in Claude's events: filler made of spaces, for the same reason."""

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
"""Bytes that JSON strings escape, that end a string, or that a string may not hold."""

_PLAIN = rb'[^\x00-\x1f"\\]*'
_STRING = rb"(" + _PLAIN + rb"(?:\\." + _PLAIN + rb")*)"

_AT_ONCE = 64
"""Events that are split at once. Without a limit, alternating forms would split the same data again and again."""

_TRIES = 8
"""Events in a row that may differ in form from the one before; after that the stream counts as one without a form."""


class Pattern:
    """The bytes before and after the text, or the thought, in the events of one stream.

    Args:
        parse: makes a chunk of an event's JSON.
        thoughts: whether the text that is read is that of thoughts.
    """

    def __init__(self, parse: Callable[[dict[str, Any]], Chunk], *, thoughts: bool = False) -> None:
        self._parse = parse
        self._thoughts = thoughts
        self._begin = self._end = b""
        self._padded: re.Pattern[bytes] | None = None
        self._tries = 0

    def run(self, data: bytes, at: int) -> tuple[str, int]:
        """Return the text of the events from byte ``at`` of ``data`` on that have the learned form, and where they end.

        The end is ``at`` if the event there must be parsed, or is incomplete. An event begins at ``at``, and lines end
        in LF.
        """
        begin = self._begin
        if not begin or not data.startswith(begin, at):
            return "", at
        if self._padded is not None:
            return self._read_padded(self._padded, data, at)
        values, skip = [], len(begin)
        parts = (data[at:] if at else data).split(self._end, _AT_ONCE)
        parts.pop()  # the rest after the last complete event
        for part in parts:
            if not part.startswith(begin):
                break
            values.append(part[skip:])
        if values:
            self._tries = 0
        joined = b"".join(values)
        around = skip + len(self._end)
        if joined.isascii() and not _ESCAPED.search(joined):
            return joined.decode(), at + len(joined) + around * len(values)
        texts: list[str] = []
        for value in values:
            text = _text(value)
            if text is None:
                break
            texts.append(text)
            at += len(value) + around
        return "".join(texts), at

    def _read_padded(self, padded: re.Pattern[bytes], data: bytes, at: int) -> tuple[str, int]:
        texts: list[str] = []
        while (event := padded.match(data, at)) is not None and (text := _text(event[1])) is not None:
            texts.append(text)
            at = event.end()
        if texts:
            self._tries = 0
        return "".join(texts), at

    def learn(self, block: bytes, data: bytes, chunk: Chunk) -> None:
        """Learn the form of an event from its chunk, if it is certain where the text stands.

        Args:
            block: the event's lines.
            data: the JSON in them.
        """
        text = chunk.thought if self._thoughts else chunk.text
        if self._tries == _TRIES or not text or chunk != self._chunk(text) or not block.endswith(data):
            return
        self._tries += 1
        # Servers may or may not escape characters beyond ASCII, so look for the text in both forms.
        for value in (json.dumps(text, ensure_ascii=escaped).encode() for escaped in (False, True)):
            before, separator, after = data.partition(value)
            if separator and self._is_text(before, after):
                self._set_form(block.removesuffix(data) + before + b'"', b'"' + after)
                return

    def _chunk(self, text: str) -> Chunk:
        return ToolChunk(thought=text) if self._thoughts else Chunk(text)

    def _set_form(self, begin: bytes, end: bytes) -> None:
        self._begin, self._end, self._padded = begin, end + b"\n\n", None
        end, padding, _ = end.partition(_PADDING)
        if padding:
            parts = re.escape(begin), _STRING, re.escape(end + padding), _PLAIN, rb'"\}\n\n'
            self._padded = re.compile(b"".join(parts))
        elif _SPACED.fullmatch(end):
            self._padded = re.compile(re.escape(begin) + _STRING + rb'"\} *\}\n\n')

    def _is_text(self, before: bytes, after: bytes) -> bool:
        try:
            other, empty = (self._parse(from_json(before + json.dumps(text).encode() + after)) for text in (_OTHER, ""))
            # Where it is empty, another field may count.
            return other == self._chunk(_OTHER) and empty == Chunk()
        except (AttributeError, LookupError, TypeError, ValueError):
            return False


def _text(value: bytes) -> str | None:
    """Return the content of a JSON string, given without its quotes; None if it is not valid."""
    try:
        # Parsing this one value is enough: all else equals an event that was parsed.
        text: str = from_json(b'"%b"' % value)
    except ValueError:
        return None
    return text
