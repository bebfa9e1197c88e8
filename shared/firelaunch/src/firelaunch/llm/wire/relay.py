"""Turn a provider's bytes into pieces of text. Every streamed answer comes this way.

Text that arrives together is passed on together, and pieces in quick succession wait a moment to be joined. So a fast
stream costs a write each hundredth of a second instead of one for each token. The first piece goes on at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from ...errors import ModelError, ModelUnavailable
from ..deadline import Deadline
from ..failures import of_response, of_stream
from ..finish import Finish
from ..types import LEAVING, WAITING, CallPart, Chunk, ModelCall, Passed, TokenCounts, ToolChunk
from .event_template import Pattern
from .http import Response, Transport
from .sse import Decoder

__all__ = ["Reading", "read", "relay", "whole_chunk"]

_GATHER_SECONDS = 0.012
"""Seconds that pieces are gathered. 10 to 20 ms halve the cost of fast streams, and nobody sees the delay."""

_MOST = 4_000_000
"""The most bytes of an answer in one piece."""

_DONE = b"[DONE]"


def relay(
    transport: Transport,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    deadline: Deadline,
    parse: Callable[[dict[str, Any]], Chunk],
    parse_answer: Callable[[dict[str, Any]], Chunk],
) -> Iterator[Chunk]:
    """Send a request, and yield its answer as it arrives. Closing the iterator closes the connection.

    Args:
        parse, parse_answer: make a chunk of an event's JSON, and of an answer that did not come as a stream.

    Raises:
        ModelError: as for :class:`~firelaunch.llm.types.Provider`.
        Whatever ``deadline.check`` raises.
    """
    response = transport.post(path, {**headers, "Accept": "text/event-stream"}, body, deadline)
    try:
        if response.status != 200:
            raise of_response(response.status, response.headers, response.text())
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            yield read(parse_answer, _object(response.body(_MOST)))
            return
        if kind != "text/event-stream":
            raise ModelUnavailable(reason=f"the provider answered with {kind or 'no content type'}, not with a stream")
        yield from Reading(response, deadline, parse).chunks()
        if deadline.hosted:
            yield LEAVING
    except Exception:
        if deadline.hosted:
            yield LEAVING
        raise
    finally:
        response.close()


def whole_chunk(call: ModelCall, chunks: Iterator[Chunk]) -> Chunk:
    """Return the single chunk of an answer in one piece.

    Raises:
        ModelUnavailable: the answer came in several chunks, or in none.
    """
    # The provider sends nothing of such an answer until all of it is ready, so the silence may last as long.
    call.deadline.first_token = call.deadline.left()
    answer = [chunk for chunk in chunks if chunk != Chunk()]
    if len(answer) != 1:
        raise ModelUnavailable(reason="the provider's answer is not in one piece")
    return answer[0]


class Reading:
    """A response that is being read: by its turn, or by the stream loop while the model sends nothing but text.

    The loop runs none of the generators that a piece of text passes otherwise. They learn of the text afterwards, from
    one :class:`~firelaunch.llm.types.Passed` chunk.
    """

    def __init__(self, response: Response, deadline: Deadline, parse: Callable[[dict[str, Any]], Chunk]) -> None:
        self._response = response
        self._deadline = deadline
        self._parse = parse
        self._decoder = Decoder()
        self._pattern = Pattern(parse)
        self._handed_on = 0.0
        self._passed: list[str] = []
        self._failure: ModelError | None = None
        self._finished = False

    def chunks(self) -> Iterator[Chunk]:  # noqa: C901 - the ways in which a stream may end
        """Yield the whole answer."""
        client, decoder = self._deadline.client, self._decoder
        try:
            for piece in self._response.pieces():
                if client is not None:
                    client.read_text = self.text
                if piece is None:
                    yield WAITING
                elif not piece:
                    yield Chunk()
                else:
                    decoder.feed(piece)
                    yield from self._read_events()
                if client is not None:
                    client.idle = False  # it was about the piece before; the next one may be the last
                # Text that the stream loop passed on comes before the events that arrived after it.
                while self._passed or decoder.has_event:
                    if self._passed:
                        passed, self._passed = "".join(self._passed), []
                        yield Passed(passed)
                    yield from self._read_events()
                if self._failure is not None:
                    raise self._failure
            decoder.end()
            yield from self._read_events()
        finally:
            if client is not None:
                client.read_text = None
        if not self._finished:
            raise ModelUnavailable(reason="the stream ended before the answer did")

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
            soon = self._is_soon(deadline.record_arrival(text=bool(text)))
            deadline.client.not_before = self._handed_on + _GATHER_SECONDS if soon else 0.0
            self._passed.append(text)
        return text

    def _read_events(self) -> Iterator[Chunk]:
        """Yield one chunk of all events that have arrived, if any."""
        client, deadline = self._deadline.client, self._deadline
        events = self._joined_events()
        if events is None:
            return
        chunk, last, error = events
        more_soon = self._is_soon(deadline.record_arrival(text=bool(chunk.text))) and not last
        if error is not None and client is not None:
            client.read_text = None  # the stream loop would read on past the error
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

    def _joined_events(self) -> tuple[Chunk, bool, ModelError | None] | None:
        """Join all events that have arrived into one chunk.

        Returns:
            The chunk, whether the stream's end mark was among the events, and the error that they end in. None without
            events.
        """
        decoder, pattern = self._decoder, self._pattern
        texts: list[str] = []
        parts: list[CallPart] = []
        thoughts: list[str] = []
        tokens: TokenCounts | None = None
        finish: Finish | None = None
        error: ModelError | None = None
        end_mark = any_event = False
        while True:
            # The fast way: events of the learned form give their text without being parsed.
            before = decoder.at
            text, decoder.at = pattern.run(decoder.buffer, before)
            if decoder.at > before:
                texts.append(text)
                any_event = True
                continue
            data = decoder.event()
            if data is None:
                break
            any_event = True
            if data == _DONE:
                end_mark = True
                continue
            if not data:
                continue
            try:
                chunk = read(self._parse, _object(data))
            except ModelError as failure:
                error = failure
                break
            pattern.learn(decoder.block, data, chunk)
            texts.append(chunk.text)
            tokens = tokens if chunk.tokens is None else chunk.tokens.at_least(tokens)
            finish = chunk.finish or finish
            parts += chunk.parts
            thoughts.append(chunk.thought)
        if not any_event:
            return None
        self._finished = self._finished or end_mark or finish is not None
        text = "".join(texts)
        thought = "".join(thoughts)
        if parts or thought:
            return ToolChunk(text, tokens, finish, parts=tuple(parts), thought=thought), end_mark, error
        return Chunk(text, tokens, finish), end_mark, error

    def _is_soon(self, now: float) -> bool:
        """Return whether a piece that arrived at ``now`` closely follows the one before it."""
        before, self._handed_on = self._handed_on, now
        return now - before < _GATHER_SECONDS


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
        raise ModelUnavailable(reason="the provider sent JSON of another form") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = from_json(data)
    except ValueError as error:
        raise ModelUnavailable(reason="the provider sent what is no JSON") from error
    if not isinstance(document, dict):
        raise ModelUnavailable(reason="the provider sent JSON that is no object")
    if document.get("error"):
        raise of_stream(document["error"])
    return document
