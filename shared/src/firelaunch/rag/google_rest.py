"""Google Cloud's REST interfaces with the service account's own credentials.

The client libraries take up to two seconds and 186 MB to import; what is needed of them here are a few POSTs.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ..llm.failures import bounded

__all__ = ["GoogleError", "GoogleRest"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_CONNECTIONS = 32
_MIN_WAIT, _MAX_WAIT = 0.2, 5.0


class GoogleError(Exception):
    """A call that was refused or did not arrive.

    Args:
        status: of HTTP; 0 where there was no answer.
        reason: Google's own message.
        retry_after: seconds, where the answer said so.
    """

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{status}: {reason}")

    @property
    def passing(self) -> bool:
        """Whether another try may help (https://cloud.google.com/apis/design/errors)."""
        return self.status in {0, 408, 429} or self.status >= 500


class GoogleRest:
    """Calls of one service. May be used from many threads.

    Args:
        base_url: with the version, such as ``https://europe-west1-aiplatform.googleapis.com/v1``.
        credentials: google-auth credentials; without them, the environment's own (on Cloud Run, the service account).
        sleep: another than the system's, for tests.
    """

    def __init__(self, base_url: str, credentials: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._base_url = base_url.rstrip("/")
        self._given = credentials
        self._sleep = sleep
        self._lock = threading.Lock()

    @cached_property
    def _session(self) -> Any:
        with self._lock:
            if "_session" in self.__dict__:
                return self.__dict__["_session"]
            import google.auth
            from google.auth.transport.requests import AuthorizedSession
            from requests.adapters import HTTPAdapter

            credentials = self._given
            if credentials is None:
                credentials, _ = google.auth.default(scopes=[_SCOPE])
            session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
            return session

    def call(self, path: str, body: Any, seconds: float) -> dict[str, Any]:
        """POST ``body`` to ``path`` once, and the answer.

        Raises:
            GoogleError: there is no answer of status 200, or it is no JSON object.
        """
        import requests
        from google.auth.exceptions import GoogleAuthError

        try:
            answer = self._session.post(
                f"{self._base_url}/{path}", json=body, timeout=seconds, max_allowed_time=seconds
            )
        except GoogleAuthError as error:
            raise GoogleError(401, f"no Google credentials: {error}") from error
        except (requests.RequestException, OSError) as error:
            raise GoogleError(0, f"{type(error).__name__}: {error}"[:500]) from error
        if answer.status_code != 200:
            raise GoogleError(answer.status_code, _message(answer), _seconds(answer.headers.get("Retry-After")))
        try:
            said = answer.json()
        except ValueError as error:
            raise GoogleError(0, f"the answer is no JSON: {error}") from error
        return said if isinstance(said, dict) else {}

    def call_patiently(self, path: str, body: Any, seconds: float) -> dict[str, Any]:
        """As ``call``, tried again within ``seconds`` while another try may help. For calls that may land twice."""
        give_up = time.monotonic() + seconds
        wait = _MIN_WAIT
        while True:
            try:
                return self.call(path, body, max(0.1, give_up - time.monotonic()))
            except GoogleError as error:
                pause = max(error.retry_after or 0.0, random.uniform(0, wait))  # noqa: S311 - keeps no secret
                wait = min(2 * wait, _MAX_WAIT)
                if not error.passing or time.monotonic() + pause >= give_up:
                    raise
                self._sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        if "_session" in self.__dict__:
            self._session.close()


def _message(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return str(answer.text)[:200]


def _seconds(value: str | None) -> float | None:
    try:
        return bounded(float(value or ""))
    except ValueError:
        return None
