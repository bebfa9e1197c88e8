"""Fetch Google's signing certificates once per max-age, instead of looking into an HTTP cache for every token."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.auth.exceptions import TransportError
from google.auth.transport.requests import Request

__all__ = ["MemoisedCertificates"]

_MAX_AGE = re.compile(r"max-age=(\d{1,9})")
_STALE_SECONDS = 3600.0
"""Seconds for which certificates are used after their max-age if no newer ones can be fetched. Google publishes a new
key well before signing with it, so an endpoint that is unreachable for an hour need not sign everybody out."""

_RETRY_SECONDS = 10.0
"""Seconds between two tries to renew stale certificates."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    data: bytes


class MemoisedCertificates:
    """Replaces google-auth's HTTP request for certificates: it fetches once per max-age, and one fetch at a time.

    Args:
        url: the address of the certificates.
        fetch: google-auth's request, or another one in tests.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self, url: str, fetch: Callable[..., Any] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._fetch = fetch or Request()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._answer: _Answer | None = None
        self._fresh_until = 0.0
        self._stale_until = 0.0

    def __call__(self, _url: str, method: str = "GET", **_: Any) -> _Answer:
        """Return the endpoint's response, for :func:`google.oauth2.id_token.verify_token`.

        Raises:
            TransportError: there are no certificates to verify with.
        """
        answer = self._answer
        if answer is not None and self._monotonic() < self._fresh_until:
            return answer
        with self._lock:
            if self._answer is None or self._monotonic() >= self._fresh_until:
                self._renew(method)
            if self._answer is None:
                raise TransportError(f"no certificates from {self._url}")  # type: ignore[no-untyped-call]
            return self._answer

    def _renew(self, method: str) -> None:
        now = self._monotonic()
        try:
            response = self._fetch(self._url, method=method, timeout=5)
            if response.status != 200:
                raise TransportError(f"{self._url} answered {response.status}")  # type: ignore[no-untyped-call]
        except TransportError:
            if now >= self._stale_until:
                self._answer = None
                raise
            self._fresh_until = now + _RETRY_SECONDS
            return
        age = _MAX_AGE.search(response.headers.get("cache-control", ""))
        self._fresh_until = now + (int(age.group(1)) if age else 0)
        self._stale_until = self._fresh_until + _STALE_SECONDS
        self._answer = _Answer(200, response.data)
