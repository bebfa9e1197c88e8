"""Which models think before they answer, by their names.

What a model thinks counts toward its token limit. So models that think get an allowance in addition to their answer's
limit (``limits.thinking_tokens``), both in the request and in what is reserved.
"""

from __future__ import annotations

import re
from typing import Final, get_args

from ..settings.app import Effort
from .claude_models import claude_thinks, is_claude

__all__ = ["EFFORTS", "Effort", "is_gemini_with_levels", "is_openai_reasoning", "nearest_effort", "thinks"]

EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)
"""From least to most; each model accepts some of them."""

_OPENAI = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*-chat)")
"""OpenAI's reasoning models, also behind a router's prefix (https://developers.openai.com/api/docs/guides/reasoning)."""

_GEMINI = re.compile(r"(?:.*/)?gemini-(?:flash|pro|2\.5|[3-9]|\d\d)")
"""Google's thinking models (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thinking)."""

_LEVELS = re.compile(r"(?:.*/)?gemini-(?:flash|pro|[3-9]|\d\d)")


def is_openai_reasoning(model: str) -> bool:
    """Return whether ``model`` is one of OpenAI's reasoning models, which need ``max_completion_tokens``."""
    return _OPENAI.match(model) is not None


def is_gemini_with_levels(model: str) -> bool:
    """Return whether ``model`` is a Gemini whose thinking has levels and cannot be switched off.

    Earlier models have a thinking budget instead.
    """
    return _LEVELS.match(model) is not None


def thinks(model: str, effort: Effort | None) -> bool:
    """Return whether ``model`` may think at ``effort``; None for its own default."""
    if is_claude(model):
        return claude_thinks(model, effort)
    if effort == "none":
        return is_gemini_with_levels(model)
    return effort is not None or is_openai_reasoning(model) or _GEMINI.match(model) is not None


def nearest_effort(effort: str) -> str | None:
    """Return the next effort to try where ``effort`` is refused: one level closer to "low"; None after "low"."""
    at, low = EFFORTS.index(effort), EFFORTS.index("low")
    return None if at == low else EFFORTS[at + 1 if at < low else at - 1]
