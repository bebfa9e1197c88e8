"""What a stream's events have in common, so that those of the same form are read without parsing all of them.

Nearly all events of a stream differ in a word of text alone; around it are some hundred bytes of the same JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import from_json

from .base import Chunk

__all__ = ["Pattern"]

_OTHER = "\0 another text"
"""What no provider says, to see that what follows from an event's text is the chunk's text."""

_PADDING = b'"obfuscation":"'
"""OpenAI's last field: characters by which all events are of a length, and nobody learns from the wire what is said
(https://platform.openai.com/docs/api-reference/chat/create, ``stream_options``)."""

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
"""What stands for something else in JSON's strings, or ends them, or may not be there."""

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

    def run(self, events: Sequence[bytes], at: int) -> tuple[str, int]:
        """The text of the events from place ``at`` on that say this and no more, and the place of the next one.

        That is ``at`` where the event there has to be parsed.
        """
        if not self._before:
            return "", at
        values = self._values(events, at)
        joined = b"".join(values)
        if joined.isascii() and not _ESCAPED.search(joined):
            return joined.decode(), at + len(values)
        texts: list[str] = []
        for value in values:
            try:
                # Nothing but this one value differs from an event that was parsed.
                text = from_json(b'"%b"' % value)
            except ValueError:
                break
            texts.append(text)
        return "".join(texts), at + len(texts)

    def _values(self, events: Sequence[bytes], at: int) -> list[bytes]:
        """What is between the quotes of the texts, of the events that begin and end as they should."""
        before, after, begin, end = self._before, self._after, len(self._before), -len(self._after)
        values = []
        for event in events[at:] if at else events:
            if not event.startswith(before):
                break
            if not self._padded:
                if not event.endswith(after):
                    break
                values.append(event[begin:end])
                continue
            value, found, padding = event[begin:].partition(after)
            if not found or padding.find(b'"') != len(padding) - 2 or padding[-1:] != b"}" or b"\\" in padding:
                break
            values.append(value)
        if values:
            self._tries = 0
        return values

    def learn(self, event: bytes, chunk: Chunk) -> None:
        """Take the form of an event and of its chunk, if it is certain where the text is."""
        if self._tries == _TRIES or not chunk.text or chunk != Chunk(chunk.text):
            return
        self._tries += 1
        for value in (json.dumps(chunk.text, ensure_ascii=escaped).encode() for escaped in (False, True)):
            before, found, after = event.partition(value)
            if found and self._is_text(before, after):
                after, padding, _ = after.partition(_PADDING)
                self._before, self._after, self._padded = before + b'"', b'"' + after + padding, bool(padding)
                return

    def _is_text(self, before: bytes, after: bytes) -> bool:
        try:
            return self._parse(from_json(before + json.dumps(_OTHER).encode() + after)) == Chunk(_OTHER)
        except (AttributeError, LookupError, TypeError, ValueError):
            return False
