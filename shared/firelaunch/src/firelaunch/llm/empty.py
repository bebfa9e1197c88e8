"""The error for an answer without text, with the reason why it is empty."""

from __future__ import annotations

from ..errors import EmptyAnswer

__all__ = ["empty_answer"]

_MESSAGES = {
    "length": "The model used up its limit of tokens before it wrote a word. Ask for less, or try again.",
    "content_filter": "The model's provider held the answer back. Ask in other words.",
    "tool_calls": "The model went on asking for tools, and gave no answer. Ask in other words.",
}
_FIXES = {"length": "; raise limits.thinking_tokens, or lower the model's effort under [models]"}


def empty_answer(finish: str | None) -> EmptyAnswer:
    """Return the error for an empty answer.

    Args:
        finish: the provider's reason for the end, as in chunks.
    """
    return EmptyAnswer(_MESSAGES.get(finish or ""), reason=f"it ended by {finish}{_FIXES.get(finish or '', '')}")
