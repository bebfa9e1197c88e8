"""Server-sent events out of bytes that come in pieces of any size."""

from __future__ import annotations

from ...errors import ModelUnavailable

__all__ = ["Decoder"]

_MOST = 4_000_000
"""Bytes of one event at most; a provider that sends more without an end is not one."""


class Decoder:
    """Collects bytes, and gives the ``data`` of each event that is whole.

    Lines end in LF, CRLF or CR; fields other than ``data``, and comments, mean nothing to us
    (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Attributes:
        buffer: what has come, its lines ended by LF.
        at: how much of that was read.
        block: the lines of the event that was given last.
    """

    def __init__(self) -> None:
        self.buffer = b""
        self.at = 0
        self.block = b""
        self._cr = False

    def feed(self, piece: bytes) -> None:
        """Take in more bytes.

        Raises:
            ModelUnavailable: an event that does not end.
        """
        if self._cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        self.buffer = piece if self.at == len(self.buffer) else self.buffer[self.at :] + piece
        self.at = 0
        if len(self.buffer) > _MOST and b"\n\n" not in self.buffer:
            raise ModelUnavailable(reason="the provider sent an event that does not end")

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._cr and piece:
            piece = piece.removeprefix(b"\n")  # the other half of a CRLF whose first ended a line
            self._cr = False
        self._cr = self._cr or piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def event(self) -> bytes | None:
        """The data of the next event; None where no whole one is left."""
        while (end := self.buffer.find(b"\n\n", self.at)) >= 0:
            block = self.buffer[self.at : end]
            self.at = end + 2
            data = _data(block)
            if data is not None:
                self.block = block
                return data
        return None

    @property
    def has_event(self) -> bool:
        """Whether there is a next one, or a comment."""
        return self.at < len(self.buffer) and self.buffer.find(b"\n\n", self.at) >= 0

    def end(self) -> None:
        """The stream has ended. Servers exist that leave out its last blank line."""
        if self.at < len(self.buffer):
            self.feed(b"\n\n")


def _data(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
