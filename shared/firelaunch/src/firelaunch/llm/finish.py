"""How a model's answer ended, in one set of words for all providers.

The providers' own words are from their references: OpenAI's ``finish_reason``
(https://platform.openai.com/docs/api-reference/chat/object), Gemini's ``FinishReason``
(https://ai.google.dev/api/generate-content#FinishReason) and Claude's ``stop_reason``
(https://platform.claude.com/docs/en/api/handling-stop-reasons). Other servers have some more.
"""

from __future__ import annotations

from typing import Final, Literal

from ..errors import AnswerFiltered, EmptyAnswer, OutputLimitReached, ToolLimitReached

__all__ = ["CUT", "Finish", "empty_answer", "finish_of"]

Finish = Literal["stop", "length", "content_filter", "tool_calls", "error", "other"]
"""How an answer ended.

"stop": the model had said everything. "length": at the limit of tokens. "content_filter": the provider held back what
follows, or the model declined. "tool_calls": the model waits for tools. "error": the provider failed, or the model
wrote something unusable. "other": for a reason that is unknown, or was not given.
"""

_WORDS: Final[dict[Finish, str]] = {
    "stop": "stop end_turn stop_sequence eos eos_token end done complete completed finished stop_str",
    "length": (
        "length max_tokens max_output_tokens max_length max_new_tokens model_length model_context_window_exceeded "
        "context_length context_window_exceeded token_limit"
    ),
    "content_filter": (
        "content_filter content_filtered safety recitation blocklist prohibited_content spii model_armor refusal "
        "image_safety image_prohibited_content image_recitation guardrail_intervened guardrail sensitive moderation"
    ),
    "tool_calls": "tool_calls tool_call tool_use function_call",
    "error": (
        "error malformed_function_call malformed_tool_use malformed_response malformed_model_output "
        "unexpected_tool_call too_many_tool_calls missing_thought_signature network_error abort aborted "
        "insufficient_system_resource cancelled failed"
    ),
}
_FINISHES = {word: finish for finish, words in _WORDS.items() for word in words.split()}

CUT: Final[frozenset[Finish | None]] = frozenset({"length", "content_filter", "error"})
"""The ends after which a tool call may be incomplete, so that it is never run."""


def finish_of(reason: str) -> Finish | None:
    """Return the word for a provider's reason for the end; None if ``reason`` is empty.

    The reason may be in capitals, have hyphens, or be an enumeration's member (``FinishReason.STOP``).
    """
    word = reason.strip().rpartition(".")[2].lower().replace("-", "_")
    return _FINISHES.get(word, "other") if word else None


def empty_answer(finish: Finish | None) -> EmptyAnswer:
    """Return the error for an answer without text that ended with ``finish``; its code names the cause."""
    reason = f"it ended by {finish}"
    match finish:
        case "length":
            fix = "raise limits.thinking_tokens, or lower the model's effort under [models]"
            return OutputLimitReached(reason=f"{reason}; {fix}")
        case "content_filter":
            return AnswerFiltered(reason=reason)
        case "tool_calls":
            return ToolLimitReached(reason=reason)
    return EmptyAnswer(reason=reason)
