"""What models that speak OpenAI's chat completions refuse of a request, and what is sent in its place.

OpenAI's reasoning models refuse ``max_tokens``, a temperature, and, in chat completions, tools beside any effort but
"none"; other servers refuse what is newer than they are. Their words differ, so names are looked for in what they say.
"""

from __future__ import annotations

import re
from typing import Any

from ..parameters import Body, ParameterRefusal
from ..thinking import EFFORTS

__all__ = ["LIMITS", "blamed", "without"]

LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the limit of output, each with the other."""

_EFFORT, _STRICT = "reasoning_effort", "strict"
_TOOLS = "tools"
"""The value of an effort that stands for any beside tools."""

_OPTIONAL = ("temperature", "top_p", "stream_options", "parallel_tool_calls", "tool_choice", _EFFORT, _STRICT)
"""What a request is still the same request without."""


def without(body: Body, refused: frozenset[ParameterRefusal]) -> Body:
    """``body`` without what was refused."""
    if not refused:
        return body
    found = dict(body)
    for name, other in LIMITS.items():
        if name in found and ParameterRefusal(name) in refused and ParameterRefusal(other) not in refused:
            found[other] = found.pop(name)
            break
    for name in _OPTIONAL:
        if ParameterRefusal(name) in refused:
            found.pop(name, None)
    _set_effort(found, refused)
    if ParameterRefusal(_STRICT) in refused and _TOOLS in found:
        found[_TOOLS] = [{**tool, "function": _lenient(tool["function"])} for tool in found[_TOOLS]]
    return found


def _lenient(function: Body) -> dict[str, Any]:
    return {name: value for name, value in function.items() if name != _STRICT}


def _set_effort(body: dict[str, Any], refused: frozenset[ParameterRefusal]) -> None:
    if _TOOLS in body and ParameterRefusal(_EFFORT, _TOOLS) in refused:
        body[_EFFORT] = "none"
        return
    effort = body.get(_EFFORT)
    while effort is not None and ParameterRefusal(_EFFORT, effort) in refused:
        effort = _nearest(effort)
    if effort is None:
        body.pop(_EFFORT, None)
    else:
        body[_EFFORT] = effort


def _nearest(effort: str) -> str | None:
    """The next effort to try: more, up to "low", in place of little, and less in place of much."""
    at = EFFORTS.index(effort)
    low = EFFORTS.index("low")
    return None if at == low else EFFORTS[at + 1 if at < low else at - 1]


def blamed(body: Body, said: str) -> ParameterRefusal | None:
    """What of ``body`` the provider's words name; None where it is nothing that can be left out.

    Args:
        said: the error's ``param`` on the first line, and its message.
    """
    parameter, _, message = said.partition("\n")
    for name in (*LIMITS, *_OPTIONAL):
        if not (parameter.endswith(name) or _names(name, message)):
            continue
        if name == _EFFORT:
            return _blamed_effort(body, message)
        there = _TOOLS in body if name == _STRICT else name in body
        if there:
            return ParameterRefusal(name)
    return None


def _names(name: str, message: str) -> bool:
    # The last can be a word of any sentence, and is meant only where it stands in quotes.
    around = r"['\"`.]" if name == _STRICT else r"\b"
    return re.search(f"{around}{name}(?:{around}|$)", message) is not None


def _blamed_effort(body: Body, message: str) -> ParameterRefusal | None:
    effort = body.get(_EFFORT)
    if _TOOLS in body and effort != "none" and "tools" in message:
        return ParameterRefusal(_EFFORT, _TOOLS)
    if effort is None:
        return None
    # A value that is not among those of the model, or the parameter itself.
    return (
        ParameterRefusal(_EFFORT, effort)
        if "value" in message.lower() or f"'{effort}'" in message
        else ParameterRefusal(_EFFORT)
    )
