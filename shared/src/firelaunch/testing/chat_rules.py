"""What OpenAI refuses of a chat request beside its answer's schema: tools that do not fit, and their calls in disorder.

The rules are those of https://platform.openai.com/docs/guides/function-calling, written here anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .strict import strict_problem

__all__ = ["chat_problem"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def chat_problem(request: Mapping[str, Any]) -> str | None:
    """Why the provider would refuse the request; None where it would not."""
    tools = request.get("tools")
    if tools is not None and not tools:
        return "Invalid 'tools': empty array"
    if "tool_choice" in request and not tools:
        return "'tool_choice' is only allowed when 'tools' are specified"
    for tool in tools or ():
        problem = _tool_problem(tool)
        if problem is not None:
            return problem
    return _order_problem(request["messages"]) or strict_problem(request)


def _tool_problem(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function", {})
    if tool.get("type") != "function" or not _NAME.fullmatch(function.get("name", "")):
        return "Invalid 'tools[].function.name'"
    schema = {"name": function["name"], "strict": function.get("strict"), "schema": function.get("parameters", {})}
    return strict_problem({"response_format": {"type": "json_schema", "json_schema": schema}})


def _order_problem(messages: Sequence[Mapping[str, Any]]) -> str | None:
    asked: set[str] = set()
    for message in messages:
        if not isinstance(message.get("content"), str | None):
            return "Invalid type for 'messages[].content'"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in asked:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            asked.remove(message["tool_call_id"])
            continue
        if asked:
            return f"'tool_calls' must be followed by tool messages; missing: {', '.join(sorted(asked))}"
        calls = message.get("tool_calls", ())
        if any(not isinstance(call["function"]["arguments"], str) for call in calls):
            return "Invalid type for 'messages[].tool_calls[].function.arguments'"
        asked = {call["id"] for call in calls}
    return f"'tool_calls' must be followed by tool messages; missing: {', '.join(sorted(asked))}" if asked else None
