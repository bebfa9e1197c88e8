"""One HTTP exchange with one checked address, within a deadline for all of it."""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ...errors import FetchRefused
from .addresses import Address, Target

if TYPE_CHECKING:
    from httpcore2 import NetworkStream

__all__ = ["FetchDeadline", "WebResponse", "exchange"]

_CONNECT_SECONDS = 10.0
_PART = 64 * 1024


class FetchDeadline:
    """A point in time that returns how much time is left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Return the seconds left, which are above zero.

        Raises:
            FetchRefused: no time is left.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise FetchRefused("too_slow", "The site took too long to answer. Try again later.")
        return seconds if at_most is None else min(seconds, at_most)


@dataclass(frozen=True, slots=True)
class WebResponse:
    """A response whose body is not read yet."""

    status: int
    headers: dict[str, str]
    body: Iterator[bytes]


@contextmanager
def exchange(
    target: Target, addresses: Sequence[Address], agent: str, deadline: FetchDeadline, context: ssl.SSLContext | None
) -> Iterator[WebResponse]:
    """GET a target from the first of its addresses that answers, without proxy, cookies or redirects.

    Raises:
        FetchRefused: there is no connection, an invalid certificate, an answer that is not HTTP, or no time left.
    """
    import httpcore2

    try:
        stream = _connect(target, addresses, deadline, context)
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        headers = {"Host": target.authority, "User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "gzip"}
        with httpcore2.HTTP11Connection(url.origin, stream) as connection:
            response = connection.handle_request(httpcore2.Request("GET", url, headers=[*headers.items()]))
            response_headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
            }
            try:
                yield WebResponse(
                    response.status,
                    response_headers,
                    _decode(response.iter_stream(), response_headers.get("content-encoding", "")),
                )
            finally:
                response.close()
    except httpcore2.TimeoutException as error:
        raise FetchRefused(
            "too_slow", "The site took too long to answer. Try again later.", reason=str(error)
        ) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        message = "The site could not be reached, or did not answer properly. Check the URL, or try again later."
        raise FetchRefused("unreachable", message, reason=f"{type(error).__name__}: {error}"[:200]) from error


def _connect(
    target: Target, addresses: Sequence[Address], deadline: FetchDeadline, context: ssl.SSLContext | None
) -> NetworkStream:
    import httpcore2

    last_error: Exception | None = None
    for address in addresses:
        try:
            # Connect to the checked address, not to the name, so that nothing is resolved again.
            stream: Any = httpcore2.SyncBackend().connect_tcp(
                str(address), target.port, timeout=deadline.left(_CONNECT_SECONDS)
            )
            if target.scheme == "https":
                tls_context = context or ssl.create_default_context()
                stream = stream.start_tls(tls_context, target.host, timeout=deadline.left(_CONNECT_SECONDS))
            return cast("NetworkStream", _DeadlineStream(stream, deadline))
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
            last_error = error
    raise last_error or httpcore2.ConnectError("no address")


class _DeadlineStream:
    """A connection whose reads and writes each get what is left of the deadline.

    So no slow drip of bytes outlasts it.
    """

    def __init__(self, stream: NetworkStream, deadline: FetchDeadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return some bytes; none at the end."""
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of the bytes."""
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection."""
        return self._stream.get_extra_info(info)


def _decode(parts: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the unpacked body in parts of at most 64 KiB, so that a bomb is noticed while it is small."""
    if encoding.lower() in {"", "identity"}:
        yield from parts
        return
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        raise FetchRefused("content_encoding", "The site answered in a form that cannot be read.", reason=encoding[:40])
    unpack = zlib.decompressobj(47)  # gzip or zlib, told from its first bytes
    for part in parts:
        packed = part
        while packed:
            try:
                yield unpack.decompress(packed, _PART)
            except zlib.error as error:
                raise FetchRefused("content_encoding", "The site's answer is damaged.", reason=str(error)) from error
            packed = unpack.unconsumed_tail
            if unpack.eof:
                packed, unpack = unpack.unused_data, zlib.decompressobj(47)
    yield unpack.flush()
