"""Turn a provider's bytes into pieces of text. Every streamed answer comes this way.

Text that arrives together is passed on together, and pieces in quick succession wait a moment to be joined. So a fast
stream costs a write each hundredth of a second instead of one for each token. The first piece goes on at once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ModelError
from ..deadline import Deadline
from ..failures import garbled, of_response
from ..finish import Finish
from ..types import LEAVING, WAITING, CallPart, Chunk, ModelCall, Passed, Source, TokenCounts, ToolChunk, WholeChunk
from .event_template import Pattern
from .http import Response, Transport
from .json_object import is_json, json_object
from .sse import Decoder
from .think_tags import ThinkTags

__all__ = ["Reading", "read", "relay", "whole_chunk"]

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.012
"""Seconds that pieces are gathered. 10 to 20 ms halve the cost of fast streams, and nobody sees the delay."""

_MOST = 4_000_000
"""The most bytes of an answer in one piece."""

_DONE = b"[DONE]"
_KEEP_ALIVES = frozenset({b"", b"ping", b"pong", b"keepalive", b"keep-alive", b"keep_alive", b"heartbeat"})
"""Names of events, and data in place of JSON, with which servers and proxies keep a connection alive."""

_USAGE_SECONDS = 3.0
"""Seconds that the usage may take to follow a finished answer, after which its stream is left alone."""

_END_SECONDS = 0.25
"""Seconds that a connection is given to end after ``[DONE]``, so that it can be kept for the next call."""

_BOM = b"\xef\xbb\xbf"

_ACCEPT = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
"""Without the latter, a server might compress: HTTP has it mean that any coding will do."""


def relay(
    transport: Transport,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    deadline: Deadline,
    parse: Callable[[dict[str, Any]], Chunk],
    parse_answer: Callable[[dict[str, Any]], Chunk],
    *,
    plain_thoughts: bool = False,
) -> Iterator[Chunk]:
    """Send a request, and yield its answer as it arrives. Closing the iterator closes the connection.

    What the answer is shows in its first bytes: servers give streams and whole answers all kinds of content types.

    Args:
        parse, parse_answer: make a chunk of an event's JSON, and of an answer that did not come as a stream.
        plain_thoughts: whether ``parse`` keeps nothing of what the model thinks, so that it need not see all of it.

    Raises:
        ModelError: as for :class:`~firelaunch.llm.types.Provider`.
        Whatever ``deadline.check`` raises.
    """
    response = transport.post(path, {**headers, **_ACCEPT}, body, deadline)
    try:
        if not 200 <= response.status < 300:
            raise of_response(response.status, response.headers, response.text())
        yield from Reading(response, deadline, parse, parse_answer, plain_thoughts=plain_thoughts).chunks()
        if deadline.hosted:
            yield LEAVING
    except Exception:
        if deadline.hosted:
            yield LEAVING
        raise
    finally:
        response.close()


def whole_chunk(call: ModelCall, chunks: Iterator[Chunk]) -> Chunk:
    """Return the answer in a single chunk, also if the server streamed it unasked.

    Raises:
        ModelUnavailable: there is no answer.
    """
    # The provider sends nothing of such an answer until all of it is ready, so the silence may last as long.
    call.deadline.first_token = call.deadline.left()
    answer = [chunk for chunk in chunks if chunk != Chunk()]
    if not answer:
        raise garbled("the provider's answer is empty")
    whole = _Batch()
    for chunk in answer:
        whole.add(chunk)
    return whole.chunk()


class Reading:
    """A response that is being read: by its turn, or by the stream loop while the model sends nothing but text.

    The loop runs none of the generators that a piece of text passes otherwise. They learn of the text afterwards, from
    one :class:`~firelaunch.llm.types.Passed` chunk.
    """

    def __init__(
        self,
        response: Response,
        deadline: Deadline,
        parse: Callable[[dict[str, Any]], Chunk],
        parse_answer: Callable[[dict[str, Any]], Chunk],
        *,
        plain_thoughts: bool = False,
    ) -> None:
        self._response = response
        self._deadline = deadline
        self._parse = parse
        self._parse_answer = parse_answer
        self._decoder = Decoder(json_lines=_is_json_lines(response.headers.get("content-type", "")))
        self._pattern = Pattern(parse)
        self._thoughts = Pattern(parse, thoughts=True) if plain_thoughts else None
        self._handed_on = 0.0
        self._passed: list[str] = []
        self._failure: ModelError | None = None
        self._beginning: bytes | None = b""  # what has arrived before it shows what the answer is
        self._whole: bytearray | None = None  # an answer that is no stream
        self._tags: ThinkTags | None = ThinkTags()  # until the answer's text has begun
        self._said: list[str] = []
        self._finished = False
        self._over = False

    def chunks(self) -> Iterator[Chunk]:
        """Yield the whole answer."""
        failure: ModelError | None = None
        try:
            yield from self._pieces()
        except ModelError as error:
            failure = error
        finally:
            if (client := self._deadline.client) is not None:
                client.read_text, client.idle = None, False
        if self._finished:
            if failure is not None:
                log.info("after a finished answer: %s", failure)
            return
        if self._tags is not None and (text := self._tags.end()):
            yield Chunk(text)
        if failure is None:
            failure = garbled("the stream ended before the answer did")
        raise failure

    def _pieces(self) -> Iterator[Chunk]:
        client, decoder = self._deadline.client, self._decoder
        for piece in self._response.pieces():
            if client is not None:
                client.read_text = self.text if self._is_text() else None
            if piece is None:
                yield WAITING
            elif not piece:
                yield Chunk()
            else:
                yield from self._read_piece(piece)
            if client is not None:
                client.idle = False  # it was about the piece before; the next one may be the last
            # Text that the stream loop passed on comes before the events that arrived after it.
            while self._passed or decoder.has_event:
                if self._passed:
                    passed, self._passed = "".join(self._passed), []
                    self._said.append(passed)
                    yield Passed(passed)
                yield from self._read_events()
            if self._failure is not None:
                raise self._failure
        if self._whole is not None:
            yield from self._answer(bytes(self._whole))
        decoder.end()
        yield from self._read_events()

    def _is_text(self) -> bool:
        """Return whether the stream loop may read what comes next, as long as it is text."""
        return self._beginning is None and self._whole is None and self._tags is None and not self._finished

    def _read_piece(self, piece: bytes) -> Iterator[Chunk]:
        if self._beginning is not None:
            piece = self._begin(self._beginning + piece)
        if self._over or not piece:
            self._deadline.record_sign_of_life()
        elif self._whole is not None:
            self._deadline.record_sign_of_life()
            self._whole += piece
            if len(self._whole) > _MOST:
                raise garbled(f"the provider's answer is longer than {_MOST} bytes")
        else:
            self._decoder.feed(piece)
            yield from self._read_events()

    def _begin(self, beginning: bytes) -> bytes:
        """Find out what the answer is, and return its first bytes; none if they do not show it yet.

        Raises:
            ModelUnavailable: it is a web page.
        """
        start = beginning.lstrip()
        if not start or (start != _BOM and _BOM.startswith(start)):
            self._beginning = start
            return b""
        start = start.removeprefix(_BOM)
        if start.startswith(b"<"):
            raise garbled("the provider answered with a web page: check the base URL")
        if start[:1] in {b"{", b"["} and not self._decoder.json_lines:
            self._whole = bytearray()
        self._beginning = None
        return start

    def _answer(self, body: bytes) -> Iterator[Chunk]:
        """Yield the chunk of an answer that is no stream. What turns out to be lines of JSON is left to the decoder."""
        if b"}\n" in body.strip() and not is_json(body):
            self._decoder.json_lines = True
            self._decoder.feed(body)
            return
        chunk = read(self._parse_answer, json_object(body))
        self._finished = True
        tags = ThinkTags()
        thought, text = tags.split(chunk.text)
        text += tags.end()
        if thought:
            chunk = ToolChunk(text, chunk.tokens, chunk.finish, parts=chunk.parts, thought=chunk.thought + thought)
        yield chunk

    def text(self) -> str | None:
        """Return what has arrived, if it is nothing but text; for the stream loop's thread.

        None means that the turn must read it.
        """
        decoder, deadline = self._decoder, self._deadline
        try:
            decoder.feed(self._response.receive_now())
        except ModelError as error:
            self._failure = error
            return None
        before = decoder.at
        text, decoder.at = self._pattern.run(decoder.buffer, before)
        # Something other than text has arrived, so let the turn read all of it from where this began.
        if self._response.ended or decoder.has_event:
            decoder.at = before
            return None
        if decoder.at > before and deadline.client is not None:
            soon = self._is_soon(deadline.record_arrival(begun=bool(text)))
            deadline.client.not_before = self._handed_on + _GATHER_SECONDS if soon else 0.0
            self._passed.append(text)
        else:
            deadline.record_sign_of_life()
        return text

    def _read_events(self) -> Iterator[Chunk]:
        """Yield one chunk of all events that have arrived, if any."""
        client, deadline = self._deadline.client, self._deadline
        batch = self._joined_events()
        if batch is None:
            deadline.record_sign_of_life()
            return
        chunk, error = batch.chunk(), batch.error
        more_soon = self._is_soon(deadline.record_arrival(begun=batch.has_content)) and not batch.end_mark
        if client is not None:  # the stream loop would read on past an error
            client.read_text = self.text if error is None and self._is_text() else None
        # The stream loop must not sleep: it leaves the socket alone until ``not_before``. A thread pauses instead.
        if client is not None and client.hosted:
            client.not_before = self._handed_on + _GATHER_SECONDS if more_soon else 0.0
            yield chunk
        else:
            yield chunk
            if more_soon and error is None:
                deadline.pause(_GATHER_SECONDS)
                self._handed_on = time.monotonic()
        if error is not None:
            raise error

    def _joined_events(self) -> _Batch | None:
        """Return all events that have arrived, joined; None without events."""
        decoder, batch = self._decoder, _Batch()
        while batch.error is None and not batch.end_mark:
            if self._read_by_form(batch):
                continue
            data = decoder.event()
            if data is None:
                break
            if not self._is_keep_alive(data):
                self._read_event(data, batch)
        if not batch.texts and not batch.thoughts and batch.error is None and not batch.end_mark:
            return None
        text = "".join(batch.texts)
        if text:
            self._said.append(text)
        if batch.end_mark or batch.finish is not None or (self._finished and text):
            self._finish(batch.end_mark, early=bool(text))
        if self._tags is not None:
            thought, text = self._without_thoughts(self._tags, text)
            batch.thoughts.append(thought)
        batch.texts = [text]
        return batch

    def _read_by_form(self, batch: _Batch) -> bool:
        """Read the next events without parsing them, if they have a learned form, and return whether they have one."""
        decoder, before = self._decoder, self._decoder.at
        text, decoder.at = self._pattern.run(decoder.buffer, before)
        if decoder.at > before:
            batch.texts.append(text)
        elif self._thoughts is not None:
            thought, decoder.at = self._thoughts.run(decoder.buffer, before)
            if decoder.at > before:
                batch.thoughts.append(thought)
        return decoder.at > before

    def _read_event(self, data: bytes, batch: _Batch) -> None:
        """Add an event that has to be parsed to ``batch``."""
        if data.strip() == _DONE:
            batch.end_mark = True
            self._decoder.drop()
            return
        try:
            chunk = read(self._parse, json_object(data, is_error=self._decoder.name == b"error"))
        except ModelError as error:
            batch.error = error
            return
        if type(chunk) is WholeChunk:
            chunk = chunk.after("".join([*self._said, *batch.texts]))
        self._pattern.learn(self._decoder.block, data, chunk)
        if self._thoughts is not None:
            self._thoughts.learn(self._decoder.block, data, chunk)
        batch.add(chunk)

    def _is_keep_alive(self, data: bytes) -> bool:
        """Return whether an event is only there to keep the connection alive."""
        if self._decoder.name and self._decoder.name in _KEEP_ALIVES:
            return True
        return not data.startswith(b"{") and data.strip().strip(b'"').lower() in _KEEP_ALIVES

    def _without_thoughts(self, tags: ThinkTags, text: str) -> tuple[str, str]:
        """Return the thoughts in a piece of text, and the rest of it."""
        thought, text = tags.split(text)
        if self._finished:
            text += tags.end()
        if self._finished or tags.done:
            self._tags = None
        return thought, text

    def _finish(self, end_mark: bool, *, early: bool) -> None:
        """Note that the answer is complete, so that its connection need not be waited for much longer.

        Args:
            early: whether text has come with it. After an earlier end that means that this server's ends are none.
        """
        goes_on = self._finished and early and not end_mark
        self._finished, self._over = True, self._over or end_mark
        self._deadline.end_within(_END_SECONDS if end_mark else math.inf if goes_on else _USAGE_SECONDS)

    def _is_soon(self, now: float) -> bool:
        """Return whether a piece that arrived at ``now`` closely follows the one before it."""
        before, self._handed_on = self._handed_on, now
        return now - before < _GATHER_SECONDS


@dataclass(slots=True)
class _Batch:
    """The events that have arrived together, whether the stream's end mark was among them, and the error after them."""

    texts: list[str] = field(default_factory=list)
    parts: list[CallPart] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    tokens: TokenCounts | None = None
    finish: Finish | None = None
    end_mark: bool = False
    error: ModelError | None = None

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        self.tokens = self.tokens if chunk.tokens is None else chunk.tokens.at_least(self.tokens)
        self.finish = chunk.finish or self.finish
        self.parts += chunk.parts
        self.thoughts.append(chunk.thought)
        self.sources += chunk.sources

    @property
    def has_content(self) -> bool:
        """Whether some of the answer is in it: text, a thought, or a part of a tool's call."""
        return bool(self.parts) or any(self.texts) or any(self.thoughts)

    def chunk(self) -> Chunk:
        """Return one chunk of all events."""
        text, thought = "".join(self.texts), "".join(self.thoughts)
        if self.parts or thought or self.sources:
            parts, sources = tuple(self.parts), tuple(self.sources)
            return ToolChunk(text, self.tokens, self.finish, parts=parts, thought=thought, sources=sources)
        return Chunk(text, self.tokens, self.finish)


def read(parse: Callable[[dict[str, Any]], Chunk], document: dict[str, Any]) -> Chunk:
    """Return what ``parse`` makes of a provider's JSON.

    Raises:
        ModelUnavailable: the JSON does not have a provider's form.
    """
    try:
        return parse(document)
    except ModelError:
        raise
    except Exception as error:
        raise garbled("the provider sent JSON of another form") from error


def _is_json_lines(content_type: str) -> bool:
    return any(word in content_type.lower() for word in ("ndjson", "jsonl", "json-lines", "stream+json"))
