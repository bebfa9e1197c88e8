"""Moderate texts with OpenAI's free endpoint: a hook for :mod:`firelaunch.turns.guardrails`."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import ContentRefused, ModelUnavailable
from ..settings.openai_server import OPENAI, OpenAIServer
from .openai_client import key_headers, openai_client

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIModeration"]

_MODEL = "omni-moderation-latest"
_SECONDS = 5.0


class OpenAIModeration:
    """A function that checks one text. A text that cannot be checked does not pass.

    Args:
        api_key, server: as for the models; OpenAI's own by default.

    Raises (when called):
        ContentRefused: the text was flagged; the reason names the categories.
        ModelUnavailable: the check failed, also on a second try.
    """

    def __init__(self, api_key: str, server: OpenAIServer = OPENAI) -> None:
        self._api_key = api_key
        self._server = server
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> openai.OpenAI:
        with self._lock:
            return openai_client(self._api_key, self._server, max_retries=1, timeout=_SECONDS)

    def __call__(self, text: str) -> None:
        """Check ``text``; the class describes the errors."""
        try:
            headers = key_headers(self._api_key, self._server)
            result = self._client.moderations.create(model=_MODEL, input=text, extra_headers=headers).results[0]
            flagged = result.flagged
            categories = result.categories.model_dump() if flagged and result.categories else {}
        except Exception as error:
            # The package checks no types, so an answer of another form fails at its first use, with any exception.
            raise ModelUnavailable(reason=f"moderation failed: {type(error).__name__}") from error
        if flagged is not False:
            raise ContentRefused(
                reason=f"flagged: {', '.join(sorted(name for name, is_so in categories.items() if is_so))}"
            )
