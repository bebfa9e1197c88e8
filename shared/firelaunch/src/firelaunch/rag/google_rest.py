"""Vector Search's REST interface, with the service account's own credentials.

Its client library is a separate package that takes as long to import as Vertex AI's, and firelaunch only needs a few
POSTs of it. Vertex AI itself is called with its own clients (:mod:`.vertex_clients`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ..llm.failures import bounded
from .google_calls import SCOPE, GoogleError, patiently

__all__ = ["GoogleRest"]

_CONNECTIONS = 32


class GoogleRest:
    """Calls of one service. May be used from many threads.

    Args:
        base_url: with the version, such as ``https://europe-west1-aiplatform.googleapis.com/v1``.
        credentials: google-auth credentials; by default the environment's own (on Cloud Run, the service account's).
        sleep: a replacement of the system's, for tests.
    """

    def __init__(self, base_url: str, credentials: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._base_url = base_url.rstrip("/")
        self._credentials = credentials
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

            credentials = self._credentials
            if credentials is None:
                credentials, _ = google.auth.default(scopes=[SCOPE])
            session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
            return session

    def call(self, path: str, body: Any, seconds: float) -> dict[str, Any]:
        """POST ``body`` to ``path`` once, and return the answer.

        Raises:
            GoogleError: there is no answer with status 200, or it is not valid JSON.
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
            document = answer.json()
        except ValueError as error:
            raise GoogleError(0, f"the answer is no JSON: {error}") from error
        return document if isinstance(document, dict) else {}

    def call_patiently(self, path: str, body: Any, seconds: float) -> dict[str, Any]:
        """Call and retry within ``seconds`` while another try may help. Only for calls that may arrive twice."""
        return patiently(lambda left: self.call(path, body, left), seconds, self._sleep)

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
