"""One HTTP exchange with one address that was checked, within a deadline that holds for all of it."""

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

__all__ = ["Deadline", "Response", "exchange"]

_CONNECT_SECONDS = 10.0
_PART = 64 * 1024


class Deadline:
    """A point in time, asked for what is left until then."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Seconds, above zero.

        Raises:
            FetchRefused: none are left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise FetchRefused("too_slow", "The site took too long to answer. Try again later.")
        return left if at_most is None else min(left, at_most)


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body is yet to be read."""

    status: int
    headers: dict[str, str]
    body: Iterator[bytes]


@contextmanager
def exchange(
    target: Target, addresses: Sequence[Address], agent: str, deadline: Deadline, context: ssl.SSLContext | None
) -> Iterator[Response]:
    """GET a target from the first of its addresses that answers. No proxy, no cookie, no redirect followed.

    Raises:
        FetchRefused: no connection, a certificate that does not hold, an answer that is no HTTP, or too late.
    """
    import httpcore2

    try:
        stream = _connect(target, addresses, deadline, context)
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        headers = {"Host": target.authority, "User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "gzip"}
        with httpcore2.HTTP11Connection(url.origin, stream) as connection:
            response = connection.handle_request(httpcore2.Request("GET", url, headers=[*headers.items()]))
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            try:
                yield Response(
                    response.status, found, _decoded(response.iter_stream(), found.get("content-encoding", ""))
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
    target: Target, addresses: Sequence[Address], deadline: Deadline, context: ssl.SSLContext | None
) -> NetworkStream:
    import httpcore2

    failed: Exception | None = None
    for address in addresses:
        try:
            # An address, not a name: nothing is resolved again.
            stream: Any = httpcore2.SyncBackend().connect_tcp(
                str(address), target.port, timeout=deadline.left(_CONNECT_SECONDS)
            )
            if target.scheme == "https":
                secure = context or ssl.create_default_context()
                stream = stream.start_tls(secure, target.host, timeout=deadline.left(_CONNECT_SECONDS))
            return cast("NetworkStream", _Timed(stream, deadline))
        except (httpcore2.NetworkError, httpcore2.TimeoutException) as error:
            failed = error
    raise failed or httpcore2.ConnectError("no address")


class _Timed:
    """A connection on which each read and write has what is left of the deadline, so that no drip outlasts it."""

    def __init__(self, stream: NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes, or none at the end."""
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of the bytes."""
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


def _decoded(parts: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The body unpacked, in parts of 64 KiB at most, so that a bomb is noticed while it is small."""
    if encoding.lower() in {"", "identity"}:
        yield from parts
        return
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        raise FetchRefused("content_encoding", "The site answered in a form that cannot be read.", reason=encoding[:40])
    unpack = zlib.decompressobj(47)  # gzip or zlib, told from its first bytes
    for part in parts:
        rest = part
        while rest:
            try:
                yield unpack.decompress(rest, _PART)
            except zlib.error as error:
                raise FetchRefused("content_encoding", "The site's answer is damaged.", reason=str(error)) from error
            rest = unpack.unconsumed_tail
            if unpack.eof:
                rest, unpack = unpack.unused_data, zlib.decompressobj(47)
    yield unpack.flush()
