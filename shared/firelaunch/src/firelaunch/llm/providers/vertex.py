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
    """A function that returns a valid access token, and refreshes it shortly before it expires.

    Args:
        credentials: google-auth credentials; by default the environment's own (on Cloud Run, the service account's).
    """

    def __init__(self, credentials: Any = None) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return the token.

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
                # google-auth calls a token invalid some minutes before it expires, so a valid one outlives the call.
                if not self._credentials.valid:
                    self._credentials.refresh(Request())
            except google.auth.exceptions.GoogleAuthError as error:
                raise ModelError(reason=f"no Google credentials: {error}") from error
            token: str = self._credentials.token
            return token


def vertex_provider(
    project: str, location: str, credentials: Any = None, base_url: str | None = None
) -> GeminiProvider:
    """Return the provider for Gemini in ``location`` ("global", "eu", "us" or a region).

    ``base_url`` is for tests.
    """
    url = f"{base_url or f'https://{vertex_host(location)}'}/v1/projects/{project}/locations/{location}"
    return GeminiProvider("vertex", GoogleAccessToken(credentials), url)
