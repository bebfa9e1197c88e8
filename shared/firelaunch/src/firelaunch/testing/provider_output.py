"""Generate faulty provider output for property-based tests: JSON with the right names and values of every type.

It needs hypothesis.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["documents", "encoded", "gemini_documents"]

_HUGE = 2**70

anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-_HUGE, _HUGE),
        st.sampled_from([0, 1, 7, -1, 2**31, 2**63, 2**64, 10**12]),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["stop", "length", "STOP", "MAX_TOKENS", "note", "{}", '{"text": "x"}', "\x00", "0", "1e999"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)
"""Any JSON value, and NaN and infinities, which some servers send as if they were JSON."""


def _mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Generate the usual value four times out of five, and otherwise any value."""
    return st.integers(0, 4).flatmap(lambda chance: anything if chance == 0 else usual)


def _table(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _mostly(st.fixed_dictionaries({}, optional={name: _mostly(field) for name, field in fields.items()}))


def _list(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _mostly(st.lists(_mostly(of), min_size=1, max_size=2))


_text, _count = st.text(max_size=8), st.integers(0, 2_000)
_arguments = st.one_of(st.sampled_from(['{"text": "x"}', '{"te', 'xt": 1}']), st.dictionaries(_text, _text, max_size=2))
_call = _table(
    index=st.integers(0, 2),
    id=_text,
    function=_table(name=st.sampled_from(["note", "other", ""]), arguments=_arguments),
    extra_content=_table(google=_table(thought_signature=_text)),
)
_message = _table(
    role=st.just("assistant"),
    content=_text,
    refusal=st.one_of(st.none(), _text),
    reasoning_content=_text,
    reasoning=_text,
    tool_calls=_list(_call),
)
_usage = _table(
    prompt_tokens=_count,
    completion_tokens=_count,
    total_tokens=_count,
    prompt_tokens_details=_table(cached_tokens=_count, cache_write_tokens=_count),
    completion_tokens_details=_table(reasoning_tokens=_count),
)
_choice = _table(
    index=st.just(0),
    delta=_message,
    message=_message,
    finish_reason=st.sampled_from([None, "stop", "length", "tool_calls"]),
)

documents = _table(choices=_list(_choice), usage=_usage, error=st.none())
"""Events or answers of a server of OpenAI's chat completions."""

_part = _table(
    text=_text,
    thought=st.booleans(),
    functionCall=_table(name=st.sampled_from(["note", ""]), args=st.dictionaries(_text, _text, max_size=2), id=_text),
    thoughtSignature=_text,
)
_candidate = _table(
    content=_table(role=st.just("model"), parts=_list(_part)),
    finishReason=st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"]),
)
_counts = (
    "promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount",
    "cachedContentTokenCount",
)  # fmt: skip

gemini_documents = _table(
    candidates=_list(_candidate),
    usageMetadata=_table(**dict.fromkeys(_counts, _count)),
    promptFeedback=_table(blockReason=st.sampled_from(["SAFETY", "OTHER"])),
)
"""Events or answers of Gemini."""


def encoded(value: Any) -> bytes:
    """Encode ``value`` as JSON, with NaN and infinities as JavaScript writes them."""
    return json.dumps(value).encode("utf-8", "surrogatepass")
