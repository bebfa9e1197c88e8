"""Refuse the chat requests that OpenAI refuses: invalid tools, tool messages out of order, unsupported parameters.

The rules follow https://platform.openai.com/docs/guides/function-calling and share no code with the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .file_rules import IMAGES, data_url_problem, file_problem
from .strict import strict_problem

__all__ = ["chat_problem", "file_part_problem", "openai_refusal", "template_refusal"]

_REASONING = re.compile(r"o\d|gpt-(?:[5-9])")
_EFFORTS = ("none", "low", "medium", "high", "xhigh", "max")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def chat_problem(request: Mapping[str, Any]) -> str | None:
    """Return why the provider would refuse the request, or None."""
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
    pending: set[str] = set()
    for message in messages:
        content = message.get("content")
        if isinstance(content, list) and message["role"] == "user":
            problem = next(filter(None, map(_part_problem, content)), None)
            if problem is not None or not content:
                return problem or "Invalid 'messages[].content': empty array"
        elif not isinstance(content, str | None):
            return "Invalid type for 'messages[].content'"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in pending:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            pending.remove(message["tool_call_id"])
            continue
        if pending:
            return f"'tool_calls' must be followed by tool messages; missing: {', '.join(sorted(pending))}"
        calls = message.get("tool_calls", ())
        if any(not isinstance(call["function"]["arguments"], str) for call in calls):
            return "Invalid type for 'messages[].tool_calls[].function.arguments'"
        pending = {call["id"] for call in calls}
    return f"'tool_calls' must be followed by tool messages; missing: {', '.join(sorted(pending))}" if pending else None


def _part_problem(part: Mapping[str, Any]) -> str | None:
    """Return why OpenAI would refuse a part of a user's message.

    The rules are from https://developers.openai.com/api/docs/guides/images-vision, file-inputs and audio.
    """
    match part.get("type"):
        case "text":
            return None if part.get("text") else "Invalid 'messages[].content[].text': empty string"
        case "image_url":
            image = part["image_url"]
            if image.get("detail", "auto") not in {"auto", "low", "high"}:
                return "Invalid value for 'detail'"
            problem = data_url_problem(image["url"], IMAGES, 50_000_000)
            return None if problem is None else f"You uploaded an unsupported image: {problem}."
        case "file":
            return file_part_problem(part["file"])
        case "input_audio":
            return _audio_problem(part["input_audio"])
    kinds = "'text', 'image_url', 'file' and 'input_audio'"
    return f"Invalid value: '{part.get('type')}'. Supported values are: {kinds}."


def file_part_problem(file: Mapping[str, Any]) -> str | None:
    """Return why OpenAI would refuse a file that comes in a message."""
    if set(file) != {"filename", "file_data"} or not str(file["filename"]).lower().endswith(".pdf"):
        return "Missing required parameter: 'file.filename', with the file's extension, or 'file.file_data'."
    problem = data_url_problem(file["file_data"], ("application/pdf",), 50_000_000)
    return None if problem is None else f"Invalid 'file_data': {problem}."


def _audio_problem(audio: Mapping[str, Any]) -> str | None:
    form = {"wav": "audio/wav", "mp3": "audio/mpeg"}.get(str(audio.get("format")))
    if form is None:
        return "Invalid value for 'input_audio.format'. Supported values are: 'wav' and 'mp3'."
    problem = file_problem(form, str(audio.get("data")), (form,), 25_000_000)
    return None if problem is None else f"The audio you provided could not be decoded: {problem}."


def _kinds(request: Mapping[str, Any]) -> set[str]:
    contents = [message["content"] for message in request["messages"] if isinstance(message.get("content"), list)]
    return {part["type"] for content in contents for part in content}


def openai_refusal(request: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Return OpenAI's message about a parameter that its model does not support, and the parameter; None if all fit.

    gpt-5.4 to gpt-6.1 refuse the older name of the token limit, a temperature or function tools with any effort but
    "none", and an effort that the model does not know.
    """
    model, kinds = request["model"], _kinds(request)
    if "input_audio" in kinds and "audio" not in model:
        return f"The model {model} does not support audio input.", "messages"
    if "audio" in model and kinds - {"text", "input_audio"}:
        return f"The model {model} takes text and audio alone.", "messages"
    if not _REASONING.match(model):
        effort = "Unrecognized request argument supplied: reasoning_effort"
        return (effort, None) if "reasoning_effort" in request else None
    if "max_tokens" in request:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
        )
    effort = request.get("reasoning_effort", "medium")
    if effort not in _EFFORTS:
        supported = ", ".join(f"'{each}'" for each in _EFFORTS)
        return (
            f"Unsupported value: '{effort}' is not supported with the '{model}' model. "
            f"Supported values are: {supported}.",
            "reasoning_effort",
        )
    if effort != "none" and request.get("temperature", 1) != 1:
        return (
            "Unsupported value: 'temperature' does not support 0.2 with this model. "
            "Only the default (1) value is supported.",
            "temperature",
        )
    if effort != "none" and request.get("tools"):
        return (
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
            "To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            "reasoning_effort",
        )
    return None


def template_refusal(request: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Refuse what the chat templates of Mistral's and Gemma's models refuse, as vLLM and llama.cpp serve them.

    Set it as :attr:`.models.ModelServer.refusal`. Source: the ``chat_template`` of
    https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.3/blob/main/tokenizer_config.json.
    """
    messages = request["messages"]
    spoken = messages[1:] if messages and messages[0]["role"] == "system" else messages
    expected = {"user"}
    for message in spoken:
        role = message["role"]
        if role not in expected:
            return "Conversation roles must alternate user/assistant/user/assistant/...", None
        after = {"user": {"assistant"}, "assistant": {"user"}, "tool": {"user", "assistant", "tool"}}
        expected = {"tool"} if message.get("tool_calls") else after[role]
        if not message.get("content") and not message.get("tool_calls"):
            return "After the optional system message, contents must not be empty.", None
    return None if spoken and spoken[-1]["role"] != "assistant" else ("The last message must be the user's.", None)
