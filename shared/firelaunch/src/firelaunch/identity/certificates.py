"""Google's signing certificates, fetched once per max-age instead of looked up in an HTTP cache for every token."""

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
"""How long certificates serve after their max-age when no newer ones can be had. Google publishes a new key well before
it signs with it, so an hour of an unreachable endpoint need not sign everybody out."""

_RETRY_SECONDS = 10.0
"""Between two tries to renew certificates that are stale."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    data: bytes


class MemoisedCertificates:
    """Stands in for google-auth's HTTP request where certificates are fetched: one fetch per max-age, one at a time.

    Args:
        url: where the certificates are.
        fetch: google-auth's request; another one in tests.
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
        """The endpoint's answer, as :func:`google.oauth2.id_token.verify_token` asks for it.

        Raises:
            TransportError: there are no certificates to go by.
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
