"""Gemini on Vertex AI, with the service account's own short-lived tokens."""

from __future__ import annotations

import threading
from typing import Any

from ...errors import ModelError
from ..google_locations import vertex_host
from .gemini import GeminiProvider

__all__ = ["GoogleAccessToken", "vertex_provider"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GoogleAccessToken:
    """A function that returns an access token that is still good, refreshing it when it is about to end.

    Args:
        credentials: google-auth credentials; without them, the environment's own (on Cloud Run, the service account).
    """

    def __init__(self, credentials: Any = None) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """The token.

        Raises:
            ModelError: there are no credentials, or they cannot be refreshed; the reason says which.
        """
        import google.auth
        import google.auth.exceptions
        from google.auth.transport.requests import Request

        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials, _ = google.auth.default(scopes=[_SCOPE])
                # google-auth calls a token stale some minutes before it ends, so one that is valid outlives the call.
                if not self._credentials.valid:
                    self._credentials.refresh(Request())
            except google.auth.exceptions.GoogleAuthError as error:
                raise ModelError(reason=f"no Google credentials: {error}") from error
            token: str = self._credentials.token
            return token


def vertex_provider(
    project: str, location: str, credentials: Any = None, base_url: str | None = None
) -> GeminiProvider:
    """The provider for Gemini in ``location`` ("global", "eu", "us" or a region); ``base_url`` is for tests."""
    url = f"{base_url or f'https://{vertex_host(location)}'}/v1/projects/{project}/locations/{location}"
    return GeminiProvider("vertex", GoogleAccessToken(credentials), url)
