"""Name the schemas of pydantic models for the OpenAPI document: one name for each form that a model has in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, count
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

__all__ = ["Schemas", "Use", "whole_example"]

Use = Literal["request", "answer", "whole answer"]
"""What a model describes: what a client sends; an answer as its model declares it; or an answer that pydantic writes,
which has every field, also those with a default."""

_EMPTY = (list, dict, set, frozenset, tuple)
"""Factories of defaults that are the same each time."""

_LOCAL, _NAMED = "#/$defs/", "#/components/schemas/"


class _Generator(GenerateJsonSchema):
    """pydantic's generator, without a title for each field: generators of clients name classes by titles."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's attribute

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def bytes_schema(self, schema: Any) -> dict[str, Any]:
        """Return the schema of bytes in JSON: a string, while "binary" is a file to generators of clients."""
        found = super().bytes_schema(schema)
        return {key: value for key, value in found.items() if value != "binary"}

    def tuple_schema(self, schema: Any) -> dict[str, Any]:
        """Return the schema of a tuple with ``items``, without which tools take an array for faulty."""
        return {"items": {}, **super().tuple_schema(schema)}

    def enum_schema(self, schema: Any) -> dict[str, Any]:
        """Return the schema of an enum. Numbers get the names that they have in Python."""
        found = super().enum_schema(schema)
        numbers = all(isinstance(member.value, int) for member in schema["members"])
        return {**found, "x-enum-varnames": [member.name for member in schema["members"]]} if numbers else found

    def get_default_value(self, schema: Any) -> Any:
        factory = schema.get("default_factory")
        return factory() if factory in _EMPTY else super().get_default_value(schema)


class _WholeGenerator(_Generator):
    """The generator for what pydantic writes."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        if field["type"] == "typed-dict-field":
            return super().field_is_required(field, total)
        return field.get("serialization_exclude_if") is None


def whole_example(model: type[BaseModel]) -> Any:
    """Return the model's example with all fields that pydantic writes, or None."""
    schema = _generated(model, "whole answer")
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].removeprefix(_LOCAL)]
    return _without_defaults(schema, "whole answer").get("example")


class Schemas:
    """The named schemas of one document.

    A name that another schema has already is made free by "Input" behind it, for what clients send, or by a number.

    Attributes:
        named: each schema by its name.
    """

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._references: dict[tuple[type[BaseModel], Use], dict[str, Any]] = {}

    def reference(self, model: type[BaseModel], use: Use) -> dict[str, Any]:
        """Return a reference to the model's schema, which gets a name."""
        key = model, use
        if key not in self._references:
            schema = _generated(model, use)
            local = schema.get("$ref", "")
            if not local:
                definitions = schema.pop("$defs", {})
                local = f"{_LOCAL}{model.__name__}"
                while local.removeprefix(_LOCAL) in definitions:
                    local += "_"
                schema = {"$defs": {**definitions, local.removeprefix(_LOCAL): schema}}
            self._references[key] = {"$ref": self._add(schema["$defs"], use)[local]}
        return self._references[key]

    def fields(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the schema of a model that gets no name, as one whose fields are a request's parameters."""
        schema = _generated(model, "request")
        return dict(_referring(schema, self._add(schema.pop("$defs", {}), "request")))

    def _add(self, definitions: Mapping[str, Any], use: Use) -> dict[str, str]:
        """Name ``definitions``, and return the new reference of each local one."""
        names = {}
        for local, schema in definitions.items():
            source = json.dumps(_closure(local, definitions), sort_keys=True, default=str)
            name = next(each for each in _names(local, schema, use) if self._sources.get(each, source) == source)
            self._sources[name] = source
            names[_LOCAL + local] = _NAMED + name
        for local, schema in definitions.items():
            name = names[_LOCAL + local].removeprefix(_NAMED)
            if name not in self.named:
                shown = _without_defaults(_referring(schema, names), use)
                self.named[name] = shown
                self._name_choices(name, shown.get("properties", {}), use)
        for name in names.values():
            self._require_tags(self.named[name.removeprefix(_NAMED)])
        return names

    def _require_tags(self, value: Any) -> None:
        """Make the field required by which a union's members are told apart: pydantic wants it, default or not."""
        for schema in _inner(value):
            tag = schema.get("discriminator")
            if isinstance(tag, dict) and isinstance(tag.get("mapping"), dict):
                for reference in tag["mapping"].values():
                    required = self.named[reference.removeprefix(_NAMED)].setdefault("required", [])
                    required += [] if tag["propertyName"] in required else [tag["propertyName"]]

    def _name_choices(self, name: str, fields: dict[str, Any], use: Use) -> None:
        """Name what a field has beside null, if it is an enum or a map: generators would make up a name."""
        for field, schema in fields.items():
            kinds = schema.get("anyOf", ())
            if {"type": "null"} in kinds:
                fields[field] = {**schema, "anyOf": [self._with_name(kind, f"{name} {field}", use) for kind in kinds]}

    def _with_name(self, kind: dict[str, Any], title: str, use: Use) -> dict[str, Any]:
        if kind.get("type") == "array" and isinstance(kind.get("items"), dict):
            return {**kind, "items": self._with_name(kind["items"], f"{title} item", use)}
        if "enum" not in kind and kind.get("type") != "object":
            return kind
        return {"$ref": self._add({title: {**kind, "title": title}}, use)[_LOCAL + title]}


def _generated(model: type[BaseModel], use: Use) -> dict[str, Any]:
    generator = _WholeGenerator if use == "whole answer" else _Generator
    mode: Literal["validation", "serialization"] = "validation" if use == "request" else "serialization"
    return model.model_json_schema(schema_generator=generator, mode=mode)


def _names(local: str, schema: Mapping[str, Any], use: Use) -> Iterator[str]:
    """Yield the names that a definition may have, the one to be preferred first."""
    title = str(schema.get("title") or local.rpartition("__")[2])
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", title)) or "Model"
    more = f"{name}Input" if use == "request" else name
    yield name
    if more != name:
        yield more
    yield from (f"{more}{number}" for number in count(2))


def _closure(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with all that it refers to. Where these are equal, so is what they stand for."""
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        local = waiting.pop()
        if local not in found:
            # Its own name is left out: pydantic lengthens names where two models have the same.
            found["" if local == name else local] = definitions[local]
            waiting += [each for each in _local_references(definitions[local]) if each not in (name, *found)]
    return found


def _local_references(value: Any) -> Iterator[str]:
    for schema in _inner(value):
        mapping = schema.get("mapping")
        texts = [schema.get("$ref"), *(mapping.values() if isinstance(mapping, dict) else ())]
        yield from (text.removeprefix(_LOCAL) for text in texts if isinstance(text, str) and text.startswith(_LOCAL))


def _inner(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects within a schema, itself too."""
    if isinstance(value, dict):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from chain.from_iterable(map(_inner, items))


def _referring(value: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references, also those of a discriminator's mapping, have their new names."""
    if isinstance(value, dict):
        return {key: _referring(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_referring(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _without_defaults(schema: dict[str, Any], use: Use) -> dict[str, Any]:
    """Return a schema without its title and its fields' defaults.

    Generators take a field with a default for one that is always there, also in what a client sends. So a default is
    told in words, where it is not simply nothing. The example of a whole answer gets them.
    """
    shown = {key: value for key, value in schema.items() if key != "title"}
    fields = shown.get("properties")
    if isinstance(fields, dict):
        if use == "whole answer" and isinstance(shown.get("example"), dict):
            defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
            shown["example"] = {**defaults, **shown["example"]}
        shown["properties"] = {name: _without_default(field, use) for name, field in fields.items()}
    return shown


def _without_default(field: Any, use: Use) -> Any:
    if not isinstance(field, dict) or "default" not in field:
        return field
    default, shown = field["default"], {key: value for key, value in field.items() if key != "default"}
    if use == "request" and default not in (None, "", [], {}):
        about = shown.get("description", "").rstrip()
        told = f"If left out: {json.dumps(default)}."
        shown["description"] = f"{about} {told}" if about else told
    return shown
