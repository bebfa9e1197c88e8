"""Convert a JSON schema for providers' strict modes: every object closed, every property required, few keywords.

Keywords that strict modes lack but a later check can enforce (lengths, formats) move to the description. What they
cannot express (free keys, conditions, tuples) is refused. The rules are OpenAI's
(https://platform.openai.com/docs/guides/structured-outputs#supported-schemas); Gemini accepts a superset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidSchema

__all__ = ["accepts_null", "resolve", "strict_schema"]

_LEVELS = 10
"""The most levels of nested objects and arrays; OpenAI's limit."""
_PROPERTIES = 1000
_ENUM_VALUES = 1000
"""OpenAI's limits are 5,000 properties and 1,000 enum values; an answer could not hold so many properties."""

_REFUSED = {
    "not": "say what is allowed",
    "if": "use anyOf",
    "then": "use anyOf",
    "else": "use anyOf",
    "dependentRequired": "use anyOf",
    "dependentSchemas": "use anyOf",
    "dependencies": "use anyOf",
    "patternProperties": "use an array of objects with a name and a value",
    "propertyNames": "use an array of objects with a name and a value",
    "prefixItems": "use an object with named properties",
    "contains": "say what every item is",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
    "$id": "take it out",
    "$anchor": "use $defs",
    "$dynamicRef": "use $ref",
    "$dynamicAnchor": "use $defs",
    "$recursiveRef": "use $ref",
}
_KEPT = {
    "string": ("pattern",),
    "number": ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "integer": ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "array": ("minItems", "maxItems"),
}
_MOVED_TO_DESCRIPTION = ("minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties", "format")
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
_TYPES = {"string", "number", "integer", "boolean", "null", "object", "array"}
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_NULL = {"type": "null"}

Node = Mapping[str, Any]


def strict_schema(schema: Node) -> dict[str, Any]:
    """Return the schema to send for ``schema``.

    Raises:
        InvalidSchema: strict mode cannot express it; the message names the place and the fix.
    """
    return _Strict(schema).root()


def resolve(node: Any, schema: Node) -> Any:
    """Return ``node``, or the part of ``schema`` that its ``$ref`` names.

    Raises:
        InvalidSchema: the reference leads nowhere, in a circle, or out of the schema.
    """
    seen: set[str] = set()
    while isinstance(node, Mapping) and "$ref" in node:
        ref = node["$ref"]
        if not isinstance(ref, str) or ref in seen:
            raise InvalidSchema(f"$ref {_quote(ref)}: it leads in a circle, or is no text.")
        seen.add(ref)
        section, _, name = ref.removeprefix("#/").partition("/")
        definitions = schema.get(section) if ref.startswith("#/") and section in {"$defs", "definitions"} else None
        if not isinstance(definitions, Mapping) or name not in definitions:
            raise InvalidSchema(f"$ref {_quote(ref)}: write #/$defs/<name>, and define the name there.")
        node = definitions[name]
    return node


def accepts_null(node: Any, schema: Node) -> bool:
    """Return whether null is a value of ``node``, a part of ``schema``."""
    node = resolve(node, schema)
    if "const" in node:
        return node["const"] is None
    if "enum" in node:
        return None in node["enum"]
    options = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
    if options:
        return any(accepts_null(option, schema) for option in options)
    kind = node.get("type")
    return kind == "null" or (isinstance(kind, list) and "null" in kind)


class _Strict:
    """The conversion of one schema, which counts properties and enum values on the way."""

    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._properties = 0
        self._values = 0

    def root(self) -> dict[str, Any]:
        schema = self._schema
        if not isinstance(schema, Mapping):
            raise InvalidSchema("The schema is not a JSON object.")
        _refuse_circles(schema)
        root = resolve(schema, schema)
        if not isinstance(root, Mapping) or root.get("type", "object") != "object" or "properties" not in root:
            raise InvalidSchema('The schema\'s root is not an object with properties: {"type": "object", …}.')
        plain = {k: v for k, v in root.items() if k not in {"$defs", "definitions", "$schema"}}
        strict = self._node(plain, "", 0)
        definitions: dict[str, Any] = {}
        for section in ("$defs", "definitions"):
            for name, node in _mapping(schema.get(section, {}), f"/{section}").items():
                if name in definitions or "/" in name or "~" in name or "%" in name:
                    raise InvalidSchema(f"/{section}/{name}: the name is there twice, or holds a /, ~ or %.")
                definitions[name] = self._node(node, f"/{section}/{name}", 0)
        return strict | ({"$defs": definitions} if definitions else {})

    def _node(self, node: Any, at: str, level: int) -> dict[str, Any]:
        if not isinstance(node, Mapping) or not node:
            raise InvalidSchema(f"{at or '/'}: it does not say what type the value has.")
        if level > _LEVELS:
            raise InvalidSchema(f"{at}: objects and arrays lie inside each other at most {_LEVELS} deep.")
        for word, mend in _REFUSED.items():
            if word in node:
                raise InvalidSchema(f"{at or '/'}: {word} cannot be had of a model; {mend}.")
        if "$ref" in node:
            resolve(node, self._schema)
            ref = {"$ref": str(node["$ref"]).replace("#/definitions/", "#/$defs/")}
            return {"anyOf": [ref], "description": node["description"]} if node.get("description") else ref
        if "allOf" in node:
            return self._only(node, at, level)
        if "anyOf" in node or "oneOf" in node:
            return self._any(node, at, level)
        return self._typed_node(node, at, level)

    def _only(self, node: Node, at: str, level: int) -> dict[str, Any]:
        parts = node["allOf"]
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], Mapping):
            raise InvalidSchema(f"{at or '/'}: allOf cannot be had of a model; write the parts as one.")
        return self._node({**parts[0], **{k: v for k, v in node.items() if k != "allOf"}}, at, level)

    def _any(self, node: Node, at: str, level: int) -> dict[str, Any]:
        word = "anyOf" if "anyOf" in node else "oneOf"
        conflicting = {"type", "properties", "items", "enum", "const", "oneOf"} - {word}
        if not at or conflicting & node.keys() or not isinstance(node[word], list) or not node[word]:
            raise InvalidSchema(f"{at or '/'}: {word} stands alone, not at the root, and lists at least one schema.")
        options = [self._node(option, f"{at}/{word}/{i}", level) for i, option in enumerate(node[word])]
        return {"anyOf": options} | _description(node, ())

    def _typed_node(self, node: Node, at: str, level: int) -> dict[str, Any]:
        kinds = _kinds(node)
        if not kinds or not set(kinds) <= _TYPES:
            raise InvalidSchema(
                f"{at or '/'}: it does not say what type the value has; types are {_comma_separated(_TYPES)}."
            )
        non_null = [kind for kind in kinds if kind != "null"]
        if len(non_null) > 1 and "enum" not in node and "const" not in node:
            return {"anyOf": [self._typed_node({**node, "type": kind}, at, level) for kind in kinds]}
        strict: dict[str, Any] = {"type": kinds if len(kinds) > 1 else kinds[0]}
        for kind in non_null:
            strict |= {word: node[word] for word in _KEPT.get(kind, ()) if word in node}
        strict |= self._values_of(node, at)
        if node.get("format") in _FORMATS and "string" in non_null:
            strict["format"] = node["format"]
        if "object" in non_null:
            strict |= self._object(node, at, level)
        if "array" in non_null:
            if not isinstance(node.get("items"), Mapping):
                raise InvalidSchema(f"{at or '/'}: an array without items; say what its items are.")
            strict["items"] = self._node(node["items"], f"{at}/items", level + 1)
        return strict | _description(
            node, [word for word in _MOVED_TO_DESCRIPTION if word in node and word not in strict]
        )

    def _values_of(self, node: Node, at: str) -> dict[str, Any]:
        if "enum" not in node and "const" not in node:
            return {}
        values = node.get("enum", [node.get("const")])
        if not isinstance(values, list) or not values or any(type(value) not in _TYPE_OF for value in values):
            raise InvalidSchema(f"{at or '/'}: enum and const hold texts, numbers, true, false and null.")
        self._values += len(values)
        if self._values > _ENUM_VALUES:
            raise InvalidSchema(f"The schema has more than {_ENUM_VALUES} enum values.")
        return {"enum": values}

    def _object(self, node: Node, at: str, level: int) -> dict[str, Any]:
        properties = _mapping(node.get("properties", {}), at)
        free = node.get("additionalProperties", False)
        if isinstance(free, Mapping) or (free and not properties):
            raise InvalidSchema(
                f"{at or '/'}: an object with free keys cannot be had of a model; use an array of objects with a name "
                "and a value."
            )
        required = node.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            raise InvalidSchema(f"{at or '/'}: required names a property that is not there.")
        self._properties += len(properties)
        if self._properties > _PROPERTIES:
            raise InvalidSchema(f"The schema has more than {_PROPERTIES} properties.")
        strict_properties = {}
        for name, inner in properties.items():
            strict = self._node(inner, f"{at}/properties/{name}", level + 1)
            # Strict mode has no optional properties. Null stands for an omitted one and is removed from the answer.
            strict_properties[name] = (
                strict if name in required or accepts_null(inner, self._schema) else _or_null(strict)
            )
        return {"properties": strict_properties, "required": list(strict_properties), "additionalProperties": False}


def _refuse_circles(schema: Node) -> None:
    """Refuse definitions that consist only of each other: checking a value against one would never end."""
    done: set[str] = set()
    _follow_references(schema, schema, (), done)
    for section in ("$defs", "definitions"):
        for name in _mapping(schema.get(section, {}), f"/{section}"):
            _follow_references(schema, {"$ref": f"#/{section}/{name}"}, (), done)


def _follow_references(schema: Node, node: Any, within: tuple[str, ...], done: set[str]) -> None:
    """Follow the references that ``node`` consists of.

    Args:
        within: the references that led here.
        done: those that lead in no circle; more are added.
    """
    if not isinstance(node, Mapping):
        return
    ref = node.get("$ref")
    if isinstance(ref, str) and ref in within:
        raise InvalidSchema(f"$ref {_quote(ref)} leads in a circle.")
    if isinstance(ref, str) and ref not in done:
        section, _, name = ref.removeprefix("#/").partition("/")
        definitions = schema.get(section)
        if isinstance(definitions, Mapping):
            _follow_references(schema, definitions.get(name), (*within, ref), done)
        done.add(ref)
    for word in ("anyOf", "oneOf", "allOf"):
        for option in node[word] if isinstance(node.get(word), list) else ():
            _follow_references(schema, option, within, done)


def _kinds(node: Node) -> list[str]:
    kind = node.get("type")
    if isinstance(kind, str):
        return [kind]
    if isinstance(kind, list):
        return list(dict.fromkeys(map(str, kind)))
    if "properties" in node:
        return ["object"]
    if "items" in node:
        return ["array"]
    values = node.get("enum", [node["const"]] if "const" in node else [])
    types = [_TYPE_OF.get(type(value), "") for value in values] if isinstance(values, list) else []
    return list(dict.fromkeys(types))


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in node:
        return {**node, "anyOf": [*node["anyOf"], _NULL]}
    if "type" not in node:
        return {"anyOf": [node, _NULL]}
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    enum = {"enum": [*node["enum"], None]} if "enum" in node else {}
    return {**node, "type": [*kinds, "null"], **enum}


def _description(node: Node, words: Iterable[str]) -> dict[str, Any]:
    lines = [str(node["description"])] if node.get("description") else []
    lines += [f"{word}: {json.dumps(node[word])}" for word in words]
    return {"description": "; ".join(lines)} if lines else {}


def _mapping(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSchema(f"{at or '/'}: it is not a JSON object.")
    return value


def _comma_separated(words: set[str]) -> str:
    return ", ".join(sorted(words))


def _quote(value: Any) -> str:
    return json.dumps(value, default=str)[:100]
