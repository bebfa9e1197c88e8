"""Moderate texts with OpenAI's free endpoint: a hook for :mod:`firelaunch.turns.guardrails`."""

from __future__ import annotations

import time
from typing import Any

from ..errors import ContentRefused, FirelaunchError, ModelTimeout, ModelUnavailable
from ..settings.openai_server import OPENAI, OpenAIServer
from .fields import table
from .openai_calls import OpenAICalls

__all__ = ["OpenAIModeration"]

_MODEL = "omni-moderation-latest"
_SECONDS = 5.0
"""For one try, and the longest pause before the second."""

_PAUSE = 0.5


class OpenAIModeration:
    """A function that checks one text. A text that cannot be checked does not pass.

    Args:
        api_key, server: as for the models; OpenAI's own by default.

    Raises (when called):
        ContentRefused: the text was flagged; the reason names the categories.
        ModelUnavailable: the check failed, also on a second try.
    """

    def __init__(self, api_key: str, server: OpenAIServer = OPENAI) -> None:
        self._calls = OpenAICalls(api_key, server)

    def __call__(self, text: str) -> None:
        """Check ``text``; the class describes the errors."""
        try:
            result = self._answer(text)["results"][0]
            flagged = result["flagged"]
            categories = sorted(name for name, is_so in table(result.get("categories")).items() if is_so)
        except (FirelaunchError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelUnavailable(reason=f"moderation failed: {type(error).__name__}") from error
        if flagged is not False:
            raise ContentRefused(reason=f"flagged: {', '.join(categories)}")

    def _answer(self, text: str) -> dict[str, Any]:
        body = {"model": _MODEL, "input": text}
        try:
            return self._calls.post("/moderations", body, _SECONDS)
        except (ModelUnavailable, ModelTimeout) as error:
            time.sleep(min(_PAUSE if error.retry_after is None else error.retry_after, _SECONDS))
        return self._calls.post("/moderations", body, _SECONDS)
