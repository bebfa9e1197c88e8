"""What Anthropic's Messages API refuses, for :mod:`.claude`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from .file_rules import IMAGES, file_problem

__all__ = ["ClaudeRefusal", "check_request", "signed"]

_FIELDS = {
    "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "temperature", "stream",
    "cache_control", "metadata", "service_tier", "stop_sequences", "top_k", "top_p", "container", "inference_geo",
}  # fmt: skip
_BLOCKS = {
    "text": {"text"},
    "image": {"source"},
    "document": {"source", "title", "context", "citations"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content", "is_error"},
}
_TOOL_FIELDS = {"name", "description", "input_schema", "strict", "type"}
_REFUSED_KEYWORDS = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "minItems", "uniqueItems", "patternProperties", "not", "if",
}  # fmt: skip

_OLD = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:[-@]\d{8})?$)")
_OFF_BY_DEFAULT = re.compile(r"claude-(?:opus|sonnet)-4-[678]")
_ALWAYS_THINKS = re.compile(r"claude-(?:opus-5-5|fable|mythos)")
_NO_TEMPERATURE = re.compile(r"claude-(?:opus-4-[78]|\w+-5)")
_SIGNED_BY_MODEL = re.compile(r"claude-(?:opus-5-5|sonnet-5-5|fable-5-[12])")


class ClaudeRefusal(Exception):
    """A request that Anthropic refuses."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        self.status = status
        self.kind = kind
        super().__init__(message)


def signed(model: str, thoughts: str) -> str:
    """Return the signature of what ``model`` thought."""
    digest = hashlib.sha256(f"{model}\0{thoughts}".encode()).digest()
    return base64.b64encode(digest).decode() + "|" + model


def _refuse(message: str) -> NoReturn:
    raise ClaudeRefusal(message)


def check_request(model: str, body: Mapping[str, Any], *, structured: bool = True) -> None:
    """Check a request without its model and version.

    Raises:
        ClaudeRefusal: Anthropic refuses it.
    """
    for field in set(body) - _FIELDS:
        _refuse(f"{field}: Extra inputs are not permitted")
    _check_limit(model, body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages: at least one message is required")
    if messages[0]["role"] != "user":
        _refuse('messages: first message must use the "user" role')
    if messages[-1]["role"] == "assistant" and not _OLD.match(model):
        _refuse("This model does not support assistant message prefill. The conversation must end with a user message.")
    _check_conversation(model, messages)
    _check_tools(model, body)
    _check_thinking(model, body)
    _check_output(model, body, structured=structured)
    marks = json.dumps(body).count('"cache_control"')
    if marks > 4:
        _refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def _check_limit(model: str, body: Mapping[str, Any]) -> None:
    limit, most = body.get("max_tokens"), 64_000 if _OLD.match(model) else 128_000
    if not isinstance(limit, int):
        _refuse("max_tokens: Field required")
    if limit < 1:
        _refuse("max_tokens: Input should be greater than or equal to 1")
    if limit > most:
        _refuse(f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens for {model}")


def _contents(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _check_conversation(model: str, messages: Sequence[Mapping[str, Any]]) -> None:
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        blocks = _contents(message["content"])
        if message["role"] not in {"user", "assistant"}:
            _refuse(f"messages.{number}.role: Input should be 'user' or 'assistant'")
        if not blocks:
            _refuse(f"messages.{number}: all messages must have non-empty content")
        for block in blocks:
            _check_block(model, f"messages.{number}", message["role"], block)
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if set(answered) - set(open_calls):
            _refuse(f"messages.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {answered}")
        if set(open_calls) - set(answered):
            _refuse(f"messages.{number - 1}: `tool_use` ids were found without `tool_result` blocks: {open_calls}")
        if answered and any(block["type"] != "tool_result" for block in blocks[: len(answered)]):
            _refuse(f"messages.{number}: `tool_result` blocks must come first")
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(open_calls)) < len(open_calls):
            _refuse(f"messages.{number}: `tool_use` ids must be unique")
    if open_calls:
        _refuse(f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks: {open_calls}")


def _check_block(model: str, place: str, role: str, block: Mapping[str, Any]) -> None:
    kind = block.get("type", "")
    if kind not in _BLOCKS or set(block) - _BLOCKS[kind] - {"type", "cache_control"}:
        _refuse(f"{place}.content: Extra inputs are not permitted in {kind!r}")
    if (kind in {"tool_use", "thinking", "redacted_thinking"}) and role != "assistant":
        _refuse(f"{place}: `{kind}` blocks can only be in assistant messages")
    if kind in {"tool_result", "image", "document"} and role != "user":
        _refuse(f"{place}: `{kind}` blocks can only be in user messages")
    if kind == "text" and not block["text"].strip():
        _refuse("messages: text content blocks must contain non-whitespace text")
    if kind in {"image", "document"}:
        _check_source(place, kind, block["source"])
    if kind == "tool_use" and not (re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]) and isinstance(block["input"], dict)):
        _refuse(f"{place}: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'; input: should be an object")
    if kind == "thinking":
        signature, _, maker = block["signature"].partition("|")
        if signed(maker, block["thinking"]) != block["signature"] or not signature:
            _refuse(f"{place}: Invalid `signature` in `thinking` block")
        if _SIGNED_BY_MODEL.match(model) and maker != model:
            _refuse(f"{place}: `thinking` blocks were made by another model")


def _check_source(place: str, kind: str, source: Mapping[str, Any]) -> None:
    """Check a file (https://platform.claude.com/docs/en/build-with-claude/pdf-support, and vision)."""
    if source.get("type") != "base64" or set(source) != {"type", "media_type", "data"}:
        _refuse(f"{place}.{kind}.source: Input should be a valid source")
    taken, most = (IMAGES, 3_932_160) if kind == "image" else (("application/pdf",), 24_000_000)
    problem = file_problem(source["media_type"], source["data"], taken, most)
    if problem is not None:
        _refuse(f"{place}.{kind}.source: {problem}")


def _check_tools(model: str, body: Mapping[str, Any]) -> None:
    tools = body.get("tools", [])
    names = [tool.get("name", "") for tool in tools]
    if len(set(names)) < len(names):
        _refuse("tools: Tool names must be unique.")
    for number, tool in enumerate(tools):
        if set(tool) - _TOOL_FIELDS - {"cache_control"} or not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            _refuse(f"tools.{number}.custom: Extra inputs are not permitted, or the name is not valid")
        if tool.get("input_schema", {}).get("type") != "object":
            _refuse(f"tools.{number}.custom.input_schema.type: Field required")
    called = any(block["type"] == "tool_use" for m in body["messages"] for block in _contents(m["content"]))
    if called and not tools:
        _refuse("Requests which include `tool_use` or `tool_result` blocks must define tools")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not tools or choice["type"] not in {"auto", "any", "tool", "none"}:
        _refuse("tool_choice: may only be specified while providing tools")
    forced = choice["type"] in {"any", "tool"}
    if forced and (_SIGNED_BY_MODEL.match(model) or body.get("thinking", {}).get("type") in {"enabled", "adaptive"}):
        _refuse("Thinking may not be enabled when tool_choice forces tool use.")


def _check_thinking(model: str, body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking")
    kind = thinking["type"] if thinking else None
    if kind is not None and kind not in _kinds(model):
        _refuse(
            f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if thinking and kind == "enabled":
        _check_budget(thinking["budget_tokens"], body)
    if thinking and set(thinking) - {"type", *(("display",) if kind != "disabled" else ()), "budget_tokens"}:
        _refuse(f"thinking.{kind}: Extra inputs are not permitted")
    thinks = kind in {"enabled", "adaptive"}
    temperature = body.get("temperature", 1.0)
    if not 0 <= temperature <= 1:
        _refuse("temperature: range: 0..1")
    if temperature != 1 and thinks:
        _refuse("`temperature` may only be set to 1 when thinking is enabled.")
    if temperature != 1 and _NO_TEMPERATURE.match(model):
        _refuse("`temperature` is not supported for this model.")
    if kind == "disabled" and body.get("output_config", {}).get("effort") in {"xhigh", "max"}:
        _refuse("thinking may only be disabled at effort high or lower")


def _kinds(model: str) -> set[str]:
    """Return the types of thinking that a model takes."""
    if _OLD.match(model):
        return {"enabled", "disabled"}
    if _ALWAYS_THINKS.match(model):
        return {"adaptive"}
    if model.startswith("claude-sonnet-5-5"):
        return {"adaptive", "between_tools"}
    return {"adaptive", "disabled"} | ({"enabled"} if model.endswith("-4-6") else set())


def _check_budget(budget: int, body: Mapping[str, Any]) -> None:
    if budget < 1024:
        _refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= body["max_tokens"]:
        _refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
    calls = [message for message in body["messages"] if message["role"] == "assistant"][-1:]
    blocks = _contents(calls[0]["content"]) if calls else []
    ends_with_results = _contents(body["messages"][-1]["content"])[0]["type"] == "tool_result"
    if ends_with_results and blocks and blocks[0]["type"] not in {"thinking", "redacted_thinking"}:
        _refuse("Expected `thinking` or `redacted_thinking`, but found `tool_use`, when `thinking` is enabled")


def _check_output(model: str, body: Mapping[str, Any], *, structured: bool) -> None:
    output = body.get("output_config", {})
    if set(output) - {"effort", "format"}:
        _refuse("output_config: Extra inputs are not permitted")
    if "effort" in output:
        if _OLD.match(model) and not model.startswith("claude-opus-4-5"):
            _refuse("This model does not support the effort parameter.")
        levels = {"low", "medium", "high", "max"} | (set() if model.endswith("-4-6") else {"xhigh"})
        if output["effort"] not in levels:
            _refuse(f"output_config.effort: This model does not support effort level '{output['effort']}'.")
    schemas = [output["format"]["schema"]] if "format" in output else []
    schemas += [tool["input_schema"] for tool in body.get("tools", []) if tool.get("strict")]
    if schemas and not structured:
        _refuse(
            "Organization Policy constraint constraints/vertexai.allowedPartnerModelFeatures violated for "
            "structured_outputs."
        )
    for schema in schemas:
        _check_schema(schema)


def _check_schema(schema: Any) -> None:
    for node in _nodes(schema):
        refused = _REFUSED_KEYWORDS & set(node)
        if refused:
            _refuse(f"output_config.format.schema: property '{min(refused)}' is not supported")
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            _refuse("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly false")
    if any(_leads_back(schema, name, set()) for name in schema.get("$defs", {})):
        _refuse("output_config.format.schema: Circular reference detected in schema definitions")


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, list):
        for item in schema:
            yield from _nodes(item)
    elif isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            inner = list(value.values()) if key in {"properties", "$defs"} else value
            yield from _nodes(inner if isinstance(inner, list | dict) else [])


def _leads_back(schema: Mapping[str, Any], name: str, seen: set[str]) -> bool:
    refs = re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(schema["$defs"].get(name, {})))
    return any(ref in seen | {name} or _leads_back(schema, ref, seen | {name}) for ref in refs)
