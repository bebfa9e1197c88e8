"""Send messages by OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

from __future__ import annotations

import gzip
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from .options import OtlpConnection
from .otlp_encoding import encode
from .outbox import RareLog
from .spans import Span

__all__ = ["SpanSender", "session_for"]

_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the specification has a client try again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_GOOGLE = "telemetry.googleapis.com"
_GOOGLE_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def session_for(endpoint: str) -> requests.Session:
    """Return a session for an endpoint. One for Google's own signs its requests as the account of the process."""
    if urlsplit(endpoint).hostname != _GOOGLE:
        return requests.Session()
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=_GOOGLE_SCOPES)
    session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session


class SpanSender:
    """Sends spans to one endpoint. One thread calls it.

    Args:
        resource: what the process is.
        text: characters of an attribute at most.
        problems: is told what goes wrong.
        pause: waits that many seconds.
    """

    def __init__(
        self,
        connection: OtlpConnection,
        resource: Mapping[str, str],
        text: int,
        problems: RareLog,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection, self._resource, self._text = connection, resource, text
        self._problems, self._pause = problems, pause
        self._session: requests.Session | None = None

    def send(self, spans: Sequence[Span]) -> bool:
        """Send the spans, and return whether they were taken. It tries again until the connection's time is used up."""
        headers = {"Content-Type": "application/x-protobuf", **self._connection.headers}
        body = encode(spans, self._resource, self._text)
        if self._connection.gzip:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        give_up = time.monotonic() + self._connection.seconds
        pause = _FIRST_PAUSE
        while True:
            problem, wait = self._post(body, headers, max(0.01, give_up - time.monotonic()))
            if not problem:
                return True
            if wait is None or time.monotonic() + max(wait, pause * (wait < 0)) >= give_up:
                self._problems.say(problem)
                return False
            self._pause(random.uniform(0, pause) if wait < 0 else wait)  # noqa: S311 - keeps no secret
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _post(self, body: bytes, headers: Mapping[str, str], seconds: float) -> tuple[str, float | None]:
        """Send once.

        Returns:
            what went wrong, "" for nothing, and the seconds to wait before the next try: negative if the receiver has
            not said, None if another try would not help.
        """
        if self._session is None:
            self._session = session_for(self._connection.endpoint)
        connection = self._connection
        try:
            answer = self._session.post(
                connection.endpoint,
                body,
                headers=headers,
                timeout=seconds,
                verify=connection.certificate or True,
                cert=connection.client_certificate,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return f"{type(error).__name__} at {urlsplit(connection.endpoint).hostname}", -1.0
        if answer.ok:
            return "", None
        problem = f"{urlsplit(connection.endpoint).hostname} answered {answer.status_code} {answer.text[:200]}"
        return problem.strip(), _wait(answer.headers.get("Retry-After")) if answer.status_code in _AGAIN else None


def _wait(retry_after: str | None) -> float:
    """Return the seconds that a Retry-After asks for; -1 if there is none that can be read."""
    if retry_after is None:
        return -1.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return -1.0
    return max(0.0, seconds) if math.isfinite(seconds) else -1.0
