"""Which models think before they answer, by their names.

What a model thinks counts against its limit of tokens. So a model that thinks is given an allowance beside the limit of
its answer (``limits.thinking_tokens``), in what it is sent and in what is reserved.
"""

from __future__ import annotations

import re
from typing import Final, get_args

from ..settings.app import Effort

__all__ = ["EFFORTS", "Effort", "is_gemini_with_levels", "is_openai_reasoning", "thinks"]

EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)
"""From least to most; each model knows some of them."""

_OPENAI = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*-chat)")
"""OpenAI's reasoning models, also behind a router's prefix (https://developers.openai.com/api/docs/guides/reasoning)."""

_GEMINI = re.compile(r"(?:.*/)?gemini-(?:flash|pro|2\.5|[3-9]|\d\d)")
"""Google's (https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thinking)."""

_LEVELS = re.compile(r"(?:.*/)?gemini-(?:flash|pro|[3-9]|\d\d)")


def is_openai_reasoning(model: str) -> bool:
    """Whether it is one of OpenAI's reasoning models, which want ``max_completion_tokens``."""
    return _OPENAI.match(model) is not None


def is_gemini_with_levels(model: str) -> bool:
    """Whether it is a Gemini whose thinking has levels, and cannot be switched off; those before have a budget."""
    return _LEVELS.match(model) is not None


def thinks(model: str, effort: Effort | None) -> bool:
    """Whether a model may think at ``effort``; None for its own default."""
    if effort == "none":
        return is_gemini_with_levels(model)
    return effort is not None or is_openai_reasoning(model) or _GEMINI.match(model) is not None
