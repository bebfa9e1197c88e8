"""Refuse the ``response_format`` that OpenAI's strict mode refuses.

The rules follow https://platform.openai.com/docs/guides/structured-outputs#supported-schemas. They share no code with
the module that makes schemas fit strict mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["strict_problem"]

_WORDS = {
    "string": {"pattern", "format"},
    "number": {"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"},
    "integer": {"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"},
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
    "boolean": set(),
    "null": set(),
}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def strict_problem(request: Mapping[str, Any]) -> str | None:
    """Return why the provider would refuse the request's schema, or None."""
    response_format = request.get("response_format")
    if response_format is None or response_format.get("type") != "json_schema":
        return None
    json_schema = response_format["json_schema"]
    if not _NAME.fullmatch(json_schema.get("name", "")):
        return "Invalid 'response_format.json_schema.name'"
    if not json_schema.get("strict"):
        return None
    schema = json_schema["schema"]
    if schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'"
    problems = [*_problems(schema, schema, "", 0, root=True)]
    for name, node in schema.get("$defs", {}).items():
        problems += _problems(node, schema, f"/$defs/{name}", 0)
    return f"Invalid schema for response_format: {problems[0]}" if problems else None


def _problems(node: Any, schema: Mapping[str, Any], at: str, level: int, *, root: bool = False) -> Iterator[str]:
    if not isinstance(node, dict):
        yield f"{at}: schema must be an object"
        return
    if level > 10:
        yield f"{at}: exceeds 10 levels of nesting"
    words = set(node) - {"description"} - ({"$defs"} if root else set())
    if "$ref" in node:
        if set(node) != {"$ref"}:
            yield f"{at}: $ref cannot have keywords {sorted(set(node) - {'$ref'})}"
        if node["$ref"].removeprefix("#/$defs/") not in schema.get("$defs", {}):
            yield f"{at}: reference can only point to definitions of the schema"
    elif "anyOf" in node:
        if words != {"anyOf"} or root or not node["anyOf"]:
            yield f"{at}: anyOf is not permitted with {sorted(words)}"
        for number, option in enumerate(node["anyOf"]):
            yield from _problems(option, schema, f"{at}/anyOf/{number}", level)
    else:
        yield from _typed(node, schema, at, level, words)


def _typed(node: dict[str, Any], schema: Mapping[str, Any], at: str, level: int, words: set[str]) -> Iterator[str]:
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(kind in _WORDS for kind in kinds):
        yield f"{at}: schema must have a 'type' key"
        return
    allowed = {"type", "enum"}.union(*(_WORDS[kind] for kind in kinds))
    if words - allowed:
        yield f"{at}: {sorted(words - allowed)} is not permitted"
    if node.get("format") not in {None, *_FORMATS}:
        yield f"{at}: {node['format']!r} is not a valid format"
    if "object" in kinds:
        if node.get("additionalProperties") is not False:
            yield f"{at}: 'additionalProperties' is required to be supplied and to be false"
        properties = node.get("properties", {})
        if sorted(node.get("required", [])) != sorted(properties):
            yield f"{at}: 'required' is required to include every key in properties"
        for name, inner in properties.items():
            yield from _problems(inner, schema, f"{at}/properties/{name}", level + 1)
    if "array" in kinds:
        yield from _problems(node.get("items"), schema, f"{at}/items", level + 1)
