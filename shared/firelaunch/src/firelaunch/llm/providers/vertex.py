"""Gemini and Claude on Vertex AI, with the service account's own short-lived tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ...errors import ModelError
from ..claude_models import is_claude
from ..google_locations import vertex_host
from ..types import Chunk, ModelCall, Provider
from .claude import ClaudeOnVertex, ClaudeProvider
from .gemini import GeminiOptions, GeminiProvider

__all__ = ["GoogleAccessToken", "VertexProvider", "vertex_provider"]

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


class VertexProvider:
    """Vertex AI's models: Claude for names like "claude-sonnet-5-5", Gemini for all others.

    Args:
        token: returns an access token for each call.
        base_url: of a project and location.
        options: what the settings ask of Gemini.
    """

    def __init__(self, token: GoogleAccessToken, base_url: str, options: GeminiOptions) -> None:
        self.name = "vertex"
        self.base_url = base_url
        self._gemini = GeminiProvider(self.name, token, base_url, options)
        self._claude = ClaudeProvider(self.name, ClaudeOnVertex(token, base_url))

    def complete(self, call: ModelCall) -> Chunk:
        """Return the whole answer, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._of(call).complete(call)

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield the answer as it arrives, as :class:`~firelaunch.llm.types.Provider` describes."""
        return self._of(call).stream(call)

    def _of(self, call: ModelCall) -> Provider:
        return self._claude if is_claude(call.model) else self._gemini


def vertex_provider(
    project: str,
    location: str,
    credentials: Any = None,
    base_url: str | None = None,
    options: GeminiOptions | None = None,
) -> VertexProvider:
    """Return the provider for the models in ``location`` ("global", "eu", "us" or a region).

    ``base_url`` is for tests.
    """
    url = f"{base_url or f'https://{vertex_host(location)}'}/v1/projects/{project}/locations/{location}"
    return VertexProvider(GoogleAccessToken(credentials), url, options or GeminiOptions())
