"""An answer without a word, and why there is none."""

from __future__ import annotations

from ..errors import EmptyAnswer

__all__ = ["empty_answer"]

_WHY = {
    "length": "The model used up its limit of tokens before it wrote a word. Ask for less, or try again.",
    "content_filter": "The model's provider held the answer back. Ask in other words.",
    "tool_calls": "The model went on asking for tools, and gave no answer. Ask in other words.",
}
_MEND = {"length": "; raise limits.thinking_tokens, or lower the model's effort under [models]"}


def empty_answer(finish: str | None) -> EmptyAnswer:
    """The error that an empty answer amounts to.

    Args:
        finish: the provider's word for why it ended, as chunks have it.
    """
    return EmptyAnswer(_WHY.get(finish or ""), reason=f"it ended by {finish}{_MEND.get(finish or '', '')}")
