"""What a stream's events have in common, so that those of the same form are read without parsing all of them.

Nearly all events of a stream differ in a word of text alone; around it are some hundred bytes of the same JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from ..types import Chunk

__all__ = ["Pattern"]

_OTHER = "\0 another text"
"""What no provider says, to see that what follows from an event's text is the chunk's text."""

_PADDING = b'"obfuscation":"'
"""OpenAI's last field: characters by which all events are of a length, and nobody learns from the wire what is said
(https://platform.openai.com/docs/api-reference/chat/create, ``stream_options``)."""

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
"""What stands for something else in JSON's strings, or ends them, or may not be there."""

_PLAIN = rb'[^\x00-\x1f"\\]*'
_STRING = rb"(" + _PLAIN + rb"(?:\\." + _PLAIN + rb")*)"

_AT_ONCE = 64
"""Events that are looked at together. Without a limit, those of two forms by turns would be so again and again."""

_TRIES = 8
"""Events in a row that do not have the form of the one before; then the stream is taken for one without any."""


class Pattern:
    """The bytes before and after the text in the events of one stream.

    Args:
        parse: makes a chunk of an event's JSON.
    """

    def __init__(self, parse: Callable[[dict[str, Any]], Chunk]) -> None:
        self._parse = parse
        self._begin = self._end = b""
        self._padded: re.Pattern[bytes] | None = None
        self._tries = 0

    def run(self, data: bytes, at: int) -> tuple[str, int]:
        """The text of events from byte ``at`` of ``data`` on that say this and no more, and where they end.

        That is ``at`` where the event there has to be parsed, or is not whole. An event begins at ``at``, and lines
        end in LF.
        """
        begin = self._begin
        if not begin or not data.startswith(begin, at):
            return "", at
        if self._padded is not None:
            return self._padded_run(self._padded, data, at)
        values, skip = [], len(begin)
        parts = (data[at:] if at else data).split(self._end, _AT_ONCE)
        parts.pop()  # what follows the last end
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

    def _padded_run(self, padded: re.Pattern[bytes], data: bytes, at: int) -> tuple[str, int]:
        texts: list[str] = []
        while (found := padded.match(data, at)) is not None and (text := _text(found[1])) is not None:
            texts.append(text)
            at = found.end()
        if texts:
            self._tries = 0
        return "".join(texts), at

    def learn(self, block: bytes, data: bytes, chunk: Chunk) -> None:
        """Take the form of an event and of its chunk, if it is certain where the text is.

        Args:
            block: the event's lines.
            data: the JSON in them.
        """
        if self._tries == _TRIES or not chunk.text or chunk != Chunk(chunk.text) or not block.endswith(data):
            return
        self._tries += 1
        for value in (json.dumps(chunk.text, ensure_ascii=escaped).encode() for escaped in (False, True)):
            before, found, after = data.partition(value)
            if found and self._is_text(before, after):
                self._take(block.removesuffix(data) + before + b'"', b'"' + after)
                return

    def _take(self, begin: bytes, end: bytes) -> None:
        self._begin, self._end, self._padded = begin, end + b"\n\n", None
        end, padding, _ = end.partition(_PADDING)
        if padding:
            parts = re.escape(begin), _STRING, re.escape(end + padding), _PLAIN, rb'"\}\n\n'
            self._padded = re.compile(b"".join(parts))

    def _is_text(self, before: bytes, after: bytes) -> bool:
        try:
            return self._parse(from_json(before + json.dumps(_OTHER).encode() + after)) == Chunk(_OTHER)
        except (AttributeError, LookupError, TypeError, ValueError):
            return False


def _text(value: bytes) -> str | None:
    """What is between a JSON string's quotes; None where that is no such thing."""
    try:
        # Nothing but this one value differs from an event that was parsed.
        text: str = from_json(b'"%b"' % value)
    except ValueError:
        return None
    return text
