"""A model's stream, from the provider's bytes to pieces of text; the way of every streamed answer.

What arrives together is handed on together, and pieces that follow each other closely wait for a moment to be joined,
so that a fast stream costs a write for each hundredth of a second and not for each token. The first goes on at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from ...errors import ModelError, ModelUnavailable
from ..deadline import Deadline
from ..failures import of_response, of_stream
from ..types import LEAVING, WAITING, CallPart, Chunk, ModelCall, Passed, TokenCounts, ToolChunk
from .event_template import Pattern
from .http import Response, Transport
from .sse import Decoder

__all__ = ["Reading", "read", "relay", "whole_chunk"]

_GATHER_SECONDS = 0.012
"""A tick of 10 to 20 ms halves the cost of fast streams, and nobody sees it."""

_MOST = 4_000_000
"""Bytes of an answer in one piece at most."""

_DONE = b"[DONE]"


def relay(
    transport: Transport,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    patience: Deadline,
    parse: Callable[[dict[str, Any]], Chunk],
    whole: Callable[[dict[str, Any]], Chunk],
) -> Iterator[Chunk]:
    """Send a request, and give its answer as it comes. Closing the iterator closes the connection.

    Args:
        parse, whole: make a chunk of an event's JSON, and of an answer that did not come as a stream.

    Raises:
        ModelError: as :class:`~firelaunch.llm.types.Provider` has it.
        Whatever ``patience.check`` raises.
    """
    response = transport.post(path, {**headers, "Accept": "text/event-stream"}, body, patience)
    try:
        if response.status != 200:
            raise of_response(response.status, response.headers, response.text())
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            yield read(whole, _object(response.body(_MOST)))
            return
        if kind != "text/event-stream":
            raise ModelUnavailable(reason=f"the provider answered with {kind or 'no content type'}, not with a stream")
        yield from Reading(response, patience, parse).chunks()
        if patience.hosted:
            yield LEAVING
    except Exception:
        if patience.hosted:
            yield LEAVING
        raise
    finally:
        response.close()


def whole_chunk(call: ModelCall, chunks: Iterator[Chunk]) -> Chunk:
    """The one chunk of an answer in one piece.

    Raises:
        ModelUnavailable: it came in several, or in none.
    """
    # Of an answer in one piece nothing comes until all of it is there.
    call.patience.first_token = call.patience.left()
    found = [chunk for chunk in chunks if chunk != Chunk()]
    if len(found) != 1:
        raise ModelUnavailable(reason="the provider's answer is not in one piece")
    return found[0]


class Reading:
    """A response that is read: by its turn, or by the hub while the model says nothing but text.

    The second way runs none of the generators that a piece of text passes on the first; they are told afterwards, by
    one :class:`~firelaunch.llm.types.Passed` chunk.
    """

    def __init__(self, response: Response, patience: Deadline, parse: Callable[[dict[str, Any]], Chunk]) -> None:
        self._response = response
        self._patience = patience
        self._parse = parse
        self._decoder = Decoder()
        self._pattern = Pattern(parse)
        self._handed_on = 0.0
        self._passed: list[str] = []
        self._failure: ModelError | None = None
        self._finished = False

    def chunks(self) -> Iterator[Chunk]:
        """All of the answer."""
        client, decoder = self._patience.client, self._decoder
        try:
            for piece in self._response.pieces():
                if client is not None:
                    client.read = self.text
                if piece is None:
                    yield WAITING
                elif not piece:
                    yield Chunk()
                else:
                    decoder.feed(piece)
                    yield from self._read()
                if client is not None:
                    client.idle = False  # of the piece before; what is told now may be the last
                while self._passed or decoder.has_event:
                    if self._passed:
                        passed, self._passed = "".join(self._passed), []
                        yield Passed(passed)
                    yield from self._read()
                if self._failure is not None:
                    raise self._failure
            decoder.end()
            yield from self._read()
        finally:
            if client is not None:
                client.read = None
        if not self._finished:
            raise ModelUnavailable(reason="the stream ended before the answer did")

    def text(self) -> str | None:
        """What has come, in the hub's thread, if it is nothing but text; else None, and the turn reads it."""
        decoder, patience = self._decoder, self._patience
        try:
            decoder.feed(self._response.here())
        except ModelError as error:
            self._failure = error
            return None
        before = decoder.at
        text, decoder.at = self._pattern.run(decoder.buffer, before)
        if self._response.ended or decoder.has_event:
            decoder.at = before
            return None
        if decoder.at > before and patience.client is not None:
            soon = self._is_soon(patience.heard(text=bool(text)))
            patience.client.not_before = self._handed_on + _GATHER_SECONDS if soon else 0.0
            self._passed.append(text)
        return text

    def _read(self) -> Iterator[Chunk]:
        """One chunk of the events that are there, if there are any."""
        client, patience = self._patience.client, self._patience
        joined = self._joined()
        if joined is None:
            return
        chunk, last, error = joined
        gather = self._is_soon(patience.heard(text=bool(chunk.text))) and not last
        if error is not None and client is not None:
            client.read = None  # the hub would read on behind it
        if client is not None and client.hosted:
            client.not_before = self._handed_on + _GATHER_SECONDS if gather else 0.0
            yield chunk
        else:
            yield chunk
            if gather and error is None:
                patience.pause(_GATHER_SECONDS)
                self._handed_on = time.monotonic()
        if error is not None:
            raise error

    def _joined(self) -> tuple[Chunk, bool, ModelError | None] | None:
        """One chunk of all events; whether the stream's end mark was among them; and the error that they end in.

        None where there are no events.
        """
        decoder, pattern = self._decoder, self._pattern
        texts: list[str] = []
        parts: list[CallPart] = []
        thoughts: list[str] = []
        tokens: TokenCounts | None = None
        finish = error = None
        last = some = False
        while True:
            before = decoder.at
            text, decoder.at = pattern.run(decoder.buffer, before)
            if decoder.at > before:
                texts.append(text)
                some = True
                continue
            data = decoder.event()
            if data is None:
                break
            some = True
            if data == _DONE:
                last = True
                continue
            if not data:
                continue
            try:
                chunk = read(self._parse, _object(data))
            except ModelError as found:
                error = found
                break
            pattern.learn(decoder.block, data, chunk)
            texts.append(chunk.text)
            tokens = tokens if chunk.tokens is None else chunk.tokens.at_least(tokens)
            finish = chunk.finish or finish
            parts += chunk.parts
            thoughts.append(chunk.thought)
        if not some:
            return None
        self._finished = self._finished or last or finish is not None
        said = "".join(texts)
        thought = "".join(thoughts)
        if parts or thought:
            return ToolChunk(said, tokens, finish, parts=tuple(parts), thought=thought), last, error
        return Chunk(said, tokens, finish), last, error

    def _is_soon(self, now: float) -> bool:
        """Whether a piece that is here now follows the one before it closely."""
        before, self._handed_on = self._handed_on, now
        return now - before < _GATHER_SECONDS


def read(parse: Callable[[dict[str, Any]], Chunk], found: dict[str, Any]) -> Chunk:
    """What ``parse`` makes of a provider's JSON.

    Raises:
        ModelUnavailable: it is not of the form that a provider's has.
    """
    try:
        return parse(found)
    except ModelError:
        raise
    except Exception as error:
        raise ModelUnavailable(reason="the provider sent JSON of another form") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = from_json(data)
    except ValueError as error:
        raise ModelUnavailable(reason="the provider sent what is no JSON") from error
    if not isinstance(found, dict):
        raise ModelUnavailable(reason="the provider sent JSON that is no object")
    if found.get("error"):
        raise of_stream(found["error"])
    return found
