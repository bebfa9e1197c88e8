"""Server-sent events out of bytes that come in pieces of any size."""

from __future__ import annotations

from ..errors import ModelUnavailable

__all__ = ["Decoder"]

_MOST = 4_000_000
"""Bytes of one event at most; a provider that sends more without an end is not one."""


class Decoder:
    """Collects bytes, and gives the ``data`` of each event that is whole.

    Lines end in LF, CRLF or CR; fields other than ``data``, and comments, mean nothing to us
    (https://html.spec.whatwg.org/multipage/server-sent-events.html).
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that ``piece`` ends, in order.

        Raises:
            ModelUnavailable: an event that does not end.
        """
        if (
            not self._rest
            and not self._data
            and not self._cr
            and piece.startswith(b"data: ")
            and piece.endswith(b"\n\n")
        ):
            # How nearly all pieces are: whole events of one line each.
            events = piece[6:-2].split(b"\n\ndata: ")
            if piece.count(b"\n") == 2 * len(events) and b"\r" not in piece:
                return events
        if self._cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        lines = (self._rest + piece).split(b"\n") if self._rest else piece.split(b"\n")
        self._rest = lines.pop()
        found = []
        for line in lines:
            if not line:
                if self._data:
                    found.append(b"\n".join(self._data) if len(self._data) > 1 else self._data[0])
                    self._data.clear()
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        if len(self._rest) > _MOST or len(self._data) > _MOST // 100:
            raise ModelUnavailable(reason="the provider sent an event that does not end")
        return found

    def _with_line_feeds(self, piece: bytes) -> bytes:
        if self._cr and piece:
            piece = piece.removeprefix(b"\n")  # the other half of a CRLF whose first ended a line
            self._cr = False
        self._cr = self._cr or piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def end(self) -> list[bytes]:
        """The data of an event that the stream's end cut its blank line off; servers exist that leave it out."""
        found = self.feed(b"\n\n") if self._rest or self._data else []
        return [data for data in found if data]
