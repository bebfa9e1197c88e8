"""Schemas for strict mode: the provider takes what is made of them, and what comes back fits the schema given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from firelaunch.errors import ExtractionFailed, InvalidSchema
from firelaunch.llm.instances import instance
from firelaunch.llm.shapes import Misfit, of_model, of_schema
from firelaunch.testing.strict import strict_problem
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator


def refusal_of(strict: Any, name: str = "answer") -> str | None:
    schema = {"name": name, "schema": strict, "strict": True}
    return strict_problem({"response_format": {"type": "json_schema", "json_schema": schema}})


LEAVES = st.one_of(
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 5), st.integers(0, 9)
    ),
    st.sampled_from(["date", "uuid", "email", "uri", "x-own"]).map(lambda f: {"type": "string", "format": f}),
    st.sampled_from(["^[A-Z]{2}\\d+$", "a|b", "^\\w+@x$"]).map(lambda p: {"type": "string", "pattern": p}),
    st.builds(lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-9, 9), st.integers(0, 9)),
    st.builds(lambda a: {"type": "number", "exclusiveMinimum": a, "exclusiveMaximum": a + 1}, st.integers(-9, 9)),
    st.just({"type": "integer", "multipleOf": 7, "minimum": 1, "default": 7}),
    st.sampled_from([{"type": "boolean", "title": "T"}, {"type": "null"}, {"type": ["string", "null"]}]),
    st.sampled_from([{"enum": ["a", "b"]}, {"const": 3}, {"enum": [1, None]}, {"type": ["integer", "string"]}]),
    st.just({"$ref": "#/$defs/leaf", "description": "a leaf"}),
)


def objects(inner: Any) -> Any:
    names = st.sampled_from(["a", "b", "c", "the name", "äöü"])
    return st.builds(
        lambda properties, some: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in some],
        },
        st.dictionaries(names, inner, min_size=1, max_size=3),
        st.sets(names),
    )


NODES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        objects(inner),
        st.builds(lambda items, n: {"type": "array", "items": items, "minItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)
SCHEMAS = objects(NODES).map(lambda root: {**root, "$defs": {"leaf": {"type": "string"}}})


@given(schema=SCHEMAS)
def test_what_is_made_of_a_schema_is_taken_by_the_provider_and_read_back(schema: Any) -> None:
    try:
        reader = of_schema(schema)
    except InvalidSchema as error:
        assume("levels" not in error.message and "deep" not in error.message)
        raise
    assert refusal_of(reader.shape.strict) is None
    made = instance(schema)
    assert instance(schema) == made
    assert reader.read(json.dumps(made)) == made


def _nulled(data: Any, node: Any) -> Any:
    """``data`` as a strict mode sends it: a property left out is null."""
    if not isinstance(data, dict) or "properties" not in node:
        return data
    return {name: _nulled(data[name], inner) if name in data else None for name, inner in node["properties"].items()}


@given(schema=SCHEMAS)
def test_a_null_that_stands_for_a_property_left_out_is_taken_out(schema: Any) -> None:
    full = instance(schema)
    bare = {name: value for name, value in full.items() if name in schema["required"]}
    found = of_schema(schema).read(json.dumps(_nulled(bare, schema)))
    assert {name: value for name, value in found.items() if value is not None or name in bare} == bare


class Cat(BaseModel):
    kind: str = Field(default="cat", pattern="^cat$")
    lives: int = 9


class Tree(BaseModel):
    value: int
    below: list[Tree] = []
    beside: Tree | None = Field(None, description="the one beside")


class Zoo(BaseModel):
    name: str = Field(min_length=2)
    cat: Cat | None = Field(None, description="the cat")
    tree: Tree
    size: int = 3

    @field_validator("name")
    @classmethod
    def _small(cls, value: str) -> str:
        if value != value.lower():
            raise ValueError("in small letters, please")
        return value


def test_a_pydantic_model_is_asked_for_and_read_with_its_defaults_and_validators() -> None:
    reader = of_model(Zoo)
    assert refusal_of(reader.shape.strict, reader.shape.name) is None
    answer = {"name": "berlin", "cat": {"kind": None, "lives": None}, "tree": {"value": 1, "below": None}, "size": None}
    zoo = reader.read(json.dumps(answer))
    assert zoo == Zoo(name="berlin", cat=Cat(), tree=Tree(value=1), size=3)
    assert isinstance(reader.read(json.dumps(instance(reader.shape.schema))), Zoo)
    for bad, says in [("Berlin", "in small letters"), ("b", "name")]:
        with pytest.raises(Misfit, match=says):
            reader.read(json.dumps(answer | {"name": bad}))
    for text in ("", "{", "[]", "null", '{"name": NaN}', "[" * 100_000):
        with pytest.raises(Misfit):
            reader.read(text)


STRING = {"type": "string"}
TWO_IN_A_CIRCLE = {
    "a": {"anyOf": [{"$ref": "#/$defs/b"}]},
    "b": {"anyOf": [{"$ref": "#/$defs/a"}, STRING]},
}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({}, "root"),
        ({"type": "array", "items": STRING}, "root"),
        ({"type": "object"}, "root"),
        ({"properties": {"a": {}}}, "/properties/a"),
        ({"properties": {"a": True}}, "/properties/a"),
        ({"properties": {"a": {"type": "map"}}}, "types are"),
        ({"properties": {"a": {"type": "object", "additionalProperties": STRING}}}, "free keys"),
        ({"properties": {"a": {"type": "object", "additionalProperties": True}}}, "free keys"),
        ({"properties": {"a": {"type": "object", "patternProperties": {"x": STRING}}}}, "patternProperties"),
        ({"properties": {"a": {"type": "array"}}}, "items"),
        ({"properties": {"a": {"type": "array", "prefixItems": [STRING]}}}, "prefixItems"),
        ({"properties": {"a": {"allOf": [STRING, {"minLength": 1}]}}}, "allOf"),
        ({"properties": {"a": {"not": STRING}}}, "not"),
        ({"properties": {"a": {"anyOf": []}}}, "anyOf"),
        ({"properties": {"a": {"type": "object", "anyOf": [STRING]}}}, "anyOf"),
        ({"properties": {"a": STRING}, "anyOf": [STRING]}, "anyOf"),
        ({"properties": {"a": {"enum": []}}}, "type"),
        ({"properties": {"a": {"type": "string", "enum": [{}]}}}, "enum"),
        ({"properties": {"a": STRING}, "required": ["b"]}, "required"),
        ({"properties": {"a": STRING}, "required": "a"}, "required"),
        ({"properties": {"a": {"$ref": "#"}}}, "ref"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "ref"),
        ({"properties": {"a": {"$ref": 3}}}, "ref"),
        ({"properties": {"a": {"$ref": "http://127.0.0.1:1/x.json"}}}, "ref"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "ref"),
        ({"properties": {"a": STRING}, "$defs": {"a": {"$ref": "#/$defs/a"}}}, "circle"),
        ({"properties": {"a": STRING}, "$defs": TWO_IN_A_CIRCLE}, "circle"),
        ({"properties": {"a": STRING}, "$defs": 3}, "defs"),
        ({"properties": {"a": STRING}, "$defs": {"a/b": STRING}}, "name"),
        ({"properties": {"a": {"type": "string", "pattern": "("}}}, "regex"),
        ({"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, "regex"),
        ({"properties": {"a": {"type": "string", "pattern": "(a{1000}){1000}"}}}, "regex"),
        ({"properties": {"a": {"type": "string", "minLength": -1}}}, "minLength"),
        ({"properties": {"a": {"type": "integer", "minimum": "1"}}}, "minimum"),
        ({"properties": {"a": {"enum": list(range(2000))}}}, "enum values"),
        ({"properties": {str(n): STRING for n in range(2000)}}, "properties"),
    ],
)  # fmt: skip
def test_what_no_model_can_be_held_to_is_refused_with_its_place(schema: Any, says: str) -> None:
    with pytest.raises(InvalidSchema, match=says):
        of_schema({"type": "object", **schema} if "type" not in schema and schema else schema)


def test_nesting_beyond_what_the_provider_takes_is_refused() -> None:
    node: Any = STRING
    for _ in range(10):
        node = {"type": "object", "properties": {"a": node}}
    assert refusal_of(of_schema(node).shape.strict) is None
    with pytest.raises(InvalidSchema, match="10 deep"):
        of_schema({"type": "object", "properties": {"a": node}})


def test_a_schema_made_to_explode_takes_no_time() -> None:
    doubled = {
        f"d{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "ab"}} for n in range(100)
    }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**doubled, "d100": STRING}}
    assert of_schema(schema).read("{}") == {}
    choices = {"type": "object", "properties": {"v": {"anyOf": [{"$ref": "#/$defs/n"}] * 3 + [STRING]}}}
    reader = of_schema({"type": "object", "properties": {"v": {"$ref": "#/$defs/n"}}, "$defs": {"n": choices}})
    answer: Any = 0
    for _ in range(50):
        answer = {"v": answer}
    with pytest.raises(Misfit):
        reader.read(json.dumps(answer))
    slow = of_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}})
    with pytest.raises(Misfit):
        slow.read(json.dumps({"a": "a" * 50_000 + "!"}))


def test_the_offline_model_says_so_when_a_schema_has_no_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}, "required": ["next"]}
    with pytest.raises(ExtractionFailed, match="without end"):
        instance({**node, "$defs": {"n": node}})


def test_the_double_of_the_provider_refuses_what_strict_mode_refuses() -> None:
    closed = {"type": "object", "properties": {"a": STRING}, "required": ["a"], "additionalProperties": False}
    assert refusal_of(closed) is None
    assert "name" in (refusal_of(closed, "no spaces") or "")
    for broken in (
        closed | {"required": []},
        {k: v for k, v in closed.items() if k != "additionalProperties"},
        closed | {"properties": {"a": STRING | {"minLength": 1}}},
        closed | {"properties": {"a": {"oneOf": [STRING]}}},
        closed | {"properties": {"a": {"$ref": "#/$defs/b"}}},
        closed | {"properties": {"a": STRING | {"format": "uri"}}},
        {"anyOf": [closed]},
    ):
        assert refusal_of(broken) is not None, broken
