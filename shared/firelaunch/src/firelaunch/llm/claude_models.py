"""What the name of a Claude model tells about its API.

The models and their differences are from https://platform.claude.com/docs/en/build-with-claude/thinking, as of 2026-11.
A model that is newer than this module is taken for one of the latest, and what it refuses is learned from its errors
(:mod:`.parameters`).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from ..settings.app import Effort

__all__ = ["LEAST_BUDGET", "accepts_temperature", "claude_thinks", "is_claude", "thinking_of", "unseen_tokens"]

LEAST_BUDGET: Final = 1_024
"""The smallest thinking budget that Claude accepts, in tokens."""

_UNSEEN_TOKENS: Final = 1_000
"""The most tokens that Claude's API adds to a prompt with tools or a schema.

Anthropic states 264 to 804 tokens by model
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing).
"""

Thinking = Literal["budget", "optional", "default", "between_tools", "always"]
"""How a model thinks.

"budget": if asked to, within a number of tokens. "optional": if asked to. "default": unless asked not to.
"between_tools": the same, but it always thinks between tools' results. "always": nobody can switch it off.
"""

_NAME = r"(?:.*/)?claude-"
_CLAUDE = re.compile(_NAME)
_BUDGET = re.compile(_NAME + r"(?:\d|(?:opus|sonnet|haiku)-4(?!\d))")
_OPTIONAL = re.compile(_NAME + r"(?:opus|sonnet|haiku)-4-[6-9](?!\d)")
_BETWEEN_TOOLS = re.compile(_NAME + r"sonnet-5-5(?!\d)")
_ALWAYS = re.compile(_NAME + r"(?:fable|mythos|opus-5-5(?!\d))")
_SAMPLED = re.compile(_NAME + r"(?:opus|sonnet)-4-6(?!\d)")


def is_claude(model: str) -> bool:
    """Return whether ``model`` is one of Anthropic's."""
    return _CLAUDE.match(model) is not None


def thinking_of(model: str) -> Thinking:
    """Return how a Claude model thinks."""
    kinds: tuple[tuple[re.Pattern[str], Thinking], ...] = (
        (_OPTIONAL, "optional"),
        (_BUDGET, "budget"),
        (_BETWEEN_TOOLS, "between_tools"),
        (_ALWAYS, "always"),
    )
    return next((kind for pattern, kind in kinds if pattern.match(model)), "default")


def claude_thinks(model: str, effort: Effort | None) -> bool:
    """Return whether a Claude model may think at ``effort``; None for its own default."""
    kind = thinking_of(model)
    if kind in {"budget", "optional"}:
        return effort not in {None, "none"}
    return effort != "none" or kind != "default"


def accepts_temperature(model: str) -> bool:
    """Return whether a Claude model that does not think accepts a temperature; those since Opus 4.7 refuse one."""
    return thinking_of(model) == "budget" or _SAMPLED.match(model) is not None


def unseen_tokens(model: str) -> int:
    """Return the most tokens that the provider of ``model`` adds to a prompt, and charges for."""
    return _UNSEEN_TOKENS if is_claude(model) else 0
