"""Decode server-sent events from bytes that arrive in pieces of any size."""

from __future__ import annotations

from pydantic_core import from_json

from ..failures import garbled

__all__ = ["Decoder"]

_MOST = 4_000_000
"""The most bytes of one event; a provider that sends more without an end does not send events."""


class Decoder:
    """A buffer that takes bytes and returns the ``data`` of each complete event.

    Lines end in LF, CRLF or CR. Comments and fields other than ``data`` are ignored
    (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Args:
        json_lines: whether each line is an event of JSON by itself, as in ``application/x-ndjson``.

    Attributes:
        buffer: the bytes that have arrived, with lines ended by LF.
        at: how many of them were read.
        block: the lines of the last event returned.
    """

    def __init__(self, *, json_lines: bool = False) -> None:
        self.json_lines = json_lines
        self.buffer = b""
        self.at = 0
        self.block = b""
        self._cr = False

    def feed(self, piece: bytes) -> None:
        """Add bytes to the buffer.

        Raises:
            ModelUnavailable: an event does not end.
        """
        if self._cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        if self.json_lines:
            piece = piece.replace(b"\n", b"\n\n")
        self.buffer = piece if self.at == len(self.buffer) else self.buffer[self.at :] + piece
        self.at = 0
        if len(self.buffer) > _MOST and b"\n\n" not in self.buffer:
            raise garbled("the provider sent an event that does not end")

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._cr and piece:
            piece = piece.removeprefix(b"\n")  # second half of a CRLF; its CR already ended the line
            self._cr = False
        self._cr = self._cr or piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def event(self) -> bytes | None:
        """Return the data of the next event; None if no complete event is left."""
        while (end := self._end()) >= 0:
            block = self.buffer[self.at : end]
            self.at = end + (2 if self.buffer.startswith(b"\n\n", end) else 1)
            data = block if self.json_lines and block.startswith(b"{") else _data(block)
            if data is not None:
                self.block = block
                return data
        return None

    def _end(self) -> int:
        """Return where the next event ends; -1 if it has not ended."""
        end = self.buffer.find(b"\n\n", self.at)
        # Some servers leave out the blank lines between events, and some send more of them.
        begin = self.at
        while self.buffer.startswith(b"\n", begin):
            begin += 1
        line = self.buffer.find(b"\ndata:", begin, end if end >= 0 else None)
        if line >= 0 and _is_json(self.buffer[begin:line]):
            return line
        return end

    def drop(self) -> None:
        """Forget what has arrived and was not read."""
        self.at = len(self.buffer)

    @property
    def name(self) -> bytes:
        """The name (``event:``) of the last event returned; empty for most."""
        if self.block.startswith(b"error:"):
            return b"error"
        if self.block.startswith(b"data:") and b"\nevent:" not in self.block:
            return b""
        lines = (line for line in self.block.split(b"\n") if line.startswith(b"event:"))
        return next(lines, b"event:")[6:].strip().lower()

    @property
    def has_event(self) -> bool:
        """Whether a complete event or comment is left."""
        return self.at < len(self.buffer) and self._end() >= 0

    def end(self) -> None:
        """Note the end of the stream. Some servers leave out the last blank line."""
        if self.at < len(self.buffer):
            self.feed(b"\n\n")


def _is_json(line: bytes) -> bool:
    """Return whether ``line`` is an event of JSON by itself."""
    if not line.startswith(b"data:") or not line.rstrip().endswith(b"}"):
        return False
    try:
        from_json(line[5:])
    except ValueError:
        return False
    return True


def _data(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    if block.startswith(b"error:"):
        return block[6:]  # llama.cpp's way in some versions
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
