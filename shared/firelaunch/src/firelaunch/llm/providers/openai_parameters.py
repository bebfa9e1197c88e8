"""The parameters that models with OpenAI's chat completions refuse, and what to send instead.

OpenAI's reasoning models refuse ``max_tokens``, a temperature, and, in chat completions, tools with any effort but
"none". Other servers refuse what is newer than they are. Error messages differ, so this module searches them for
names.
"""

from __future__ import annotations

import re
from typing import Any

from ..parameters import Body, ParameterRefusal
from ..thinking import nearest_effort

__all__ = ["LIMITS", "refused_parameter", "without"]

LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the output limit, each mapped to the other."""

_EFFORT, _STRICT = "reasoning_effort", "strict"
_TOOLS = "tools"
"""As the value of a refused effort: any effort together with tools."""

_OPTIONAL = ("temperature", "top_p", "stream_options", "parallel_tool_calls", "tool_choice", _EFFORT, _STRICT)
"""Parameters that a request can do without."""


def without(body: Body, refused: frozenset[ParameterRefusal]) -> Body:
    """Return ``body`` without what was refused."""
    if not refused:
        return body
    adapted = dict(body)
    for name, other in LIMITS.items():
        if name in adapted and ParameterRefusal(name) in refused and ParameterRefusal(other) not in refused:
            adapted[other] = adapted.pop(name)
            break
    for name in _OPTIONAL:
        if ParameterRefusal(name) in refused:
            adapted.pop(name, None)
    _set_effort(adapted, refused)
    if ParameterRefusal(_STRICT) in refused and _TOOLS in adapted:
        adapted[_TOOLS] = [{**tool, "function": _lenient(tool["function"])} for tool in adapted[_TOOLS]]
    return adapted


def _lenient(function: Body) -> dict[str, Any]:
    return {name: value for name, value in function.items() if name != _STRICT}


def _set_effort(body: dict[str, Any], refused: frozenset[ParameterRefusal]) -> None:
    if _TOOLS in body and ParameterRefusal(_EFFORT, _TOOLS) in refused:
        body[_EFFORT] = "none"
        return
    effort = body.get(_EFFORT)
    while effort is not None and ParameterRefusal(_EFFORT, effort) in refused:
        effort = nearest_effort(effort)
    if effort is None:
        body.pop(_EFFORT, None)
    else:
        body[_EFFORT] = effort


def refused_parameter(body: Body, error_text: str) -> ParameterRefusal | None:
    """Return the part of ``body`` that an error message names; None if it names nothing that can be left out.

    Args:
        error_text: the error's ``param`` on the first line, then its message.
    """
    parameter, _, message = error_text.partition("\n")
    for name in (*LIMITS, *_OPTIONAL):
        if not (parameter.endswith(name) or _mentions(name, message)):
            continue
        if name == _EFFORT:
            return _refused_effort(body, message)
        present = _TOOLS in body if name == _STRICT else name in body
        if present:
            return ParameterRefusal(name)
    return None


def _mentions(name: str, message: str) -> bool:
    # "strict" is also an ordinary word, so it counts only in quotes.
    around = r"['\"`.]" if name == _STRICT else r"\b"
    return re.search(f"{around}{name}(?:{around}|$)", message) is not None


def _refused_effort(body: Body, message: str) -> ParameterRefusal | None:
    effort = body.get(_EFFORT)
    if _TOOLS in body and effort != "none" and "tools" in message:
        return ParameterRefusal(_EFFORT, _TOOLS)
    if effort is None:
        return None
    # The message rejects either this value or the parameter itself.
    return (
        ParameterRefusal(_EFFORT, effort)
        if "value" in message.lower() or f"'{effort}'" in message
        else ParameterRefusal(_EFFORT)
    )
