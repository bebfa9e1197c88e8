"""Schemas for strict mode: the provider takes what is made of them, and what comes back fits the schema given."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from firelaunch.errors import ExtractionFailed, InvalidSchema
from firelaunch.llm.providers.offline_values import instance
from firelaunch.llm.shapes import Misfit, of_model, of_schema
from firelaunch.testing.strict import strict_problem
from hypothesis import assume, example, given, settings
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


def root(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def nested(levels: int, least: int) -> Any:
    node: Any = STRING
    for _ in range(levels):
        node = {"type": "array", "items": node, "minItems": least}
    return node


TWICE = {f"a{n}": root(x={"$ref": f"#/$defs/a{n + 1}"}, y={"$ref": f"#/$defs/a{n + 1}"}) for n in range(60)}
TOO_LARGE = {
    "items": root(a={"type": "array", "items": STRING, "minItems": 1_000_000_000}),
    "items without type": root(a={"items": STRING, "minItems": 1_000_000_000}),
    "items by a float": root(a={"type": "array", "items": STRING, "minItems": 1e308}),
    "different items": root(a={"type": "array", "items": STRING, "minItems": 10**9, "uniqueItems": True}),
    "items of items": root(a=nested(9, 100)),
    "characters": root(a={"type": "string", "minLength": 10**10}),
    "characters in either": root(a={"anyOf": [{"type": "string", "minLength": 10**10}, nested(3, 500)]}),
    "items by definitions": {**root(a={"$ref": "#/$defs/a"}), "$defs": {"a": nested(4, 100)}},
    "definitions that use each other twice": {**root(a={"$ref": "#/$defs/a0"}), "$defs": {**TWICE, "a60": STRING}},
}


@pytest.mark.parametrize("schema", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_schema_whose_smallest_answer_nobody_could_write_is_refused_and_takes_no_room(schema: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidSchema, match="smallest answer"):
            of_schema(schema)
        with pytest.raises(ExtractionFailed):
            instance(schema)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


FINE = {
    "many that may be none": {**root(a=nested(1, 10**9)), "required": []},
    "long or short": root(a={"anyOf": [{"type": "string", "minLength": 10**9}, {"type": "null"}]}),
    "long or null": root(a={"type": ["string", "null"], "minLength": 10**9}),
    "at most": root(a={"type": "array", "items": STRING, "maxItems": 10**9}),
    "inside itself": {
        **root(a={"$ref": "#/$defs/t"}),
        "$defs": {"t": root(below={"type": "array", "items": {"$ref": "#/$defs/t"}})},
    },
}


@pytest.mark.parametrize("schema", FINE.values(), ids=FINE.keys())
def test_what_a_schema_allows_and_does_not_ask_for_is_not_held_against_it(schema: Any) -> None:
    assert of_schema(schema).shape.schema == schema


@pytest.mark.parametrize("pattern", ["a{1000000}", "(a{1000}){1000}", "((a{100}){100}){100}", "(" * 3000 + ")" * 3000])
def test_a_pattern_that_asks_for_too_much_is_refused_before_it_is_written_out(pattern: str) -> None:
    schema = root(a={"type": "string", "pattern": pattern})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidSchema):
            of_schema(schema)
        with pytest.raises(ExtractionFailed):
            instance(schema)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_parts_too_deep_inside_each_other_are_refused() -> None:
    for word in ("anyOf", "oneOf", "allOf"):
        links = {f"{n:x}": {word: [{"$ref": f"#/$defs/{n + 1:x}"}]} for n in range(5_000)}
        schema = {**root(a={"$ref": "#/$defs/0"}), "$defs": {**links, f"{5_000:x}": STRING}}
        with pytest.raises(InvalidSchema, match="too deep"):
            of_schema(schema)
        with pytest.raises(ExtractionFailed):
            instance(schema)


SIZES = st.sampled_from([0, 1, 5, 100, 10_000, 10**9, 10**30, 1e300]) | st.integers(0, 10**6)
NUMBERS = (
    st.sampled_from([0, 1, -1, 0.1, 1e308, -1e308, 5e-324, 10**400, -(10**400)])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
PATTERNS = st.sampled_from(["a{1000000}", "[a-z]{9}", "(a|b){500}", "((a{9}){9}){9}", "^x*$", "(){1000000}"])
SIZED = st.recursive(
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("string")}, optional={"minLength": SIZES, "maxLength": SIZES, "pattern": PATTERNS}
        ),
        st.fixed_dictionaries(
            {"type": st.sampled_from(["number", "integer"])},
            optional={
                "minimum": NUMBERS,
                "maximum": NUMBERS,
                "exclusiveMinimum": NUMBERS,
                "exclusiveMaximum": NUMBERS,
                "multipleOf": NUMBERS,
            },
        ),
        st.lists(st.text(max_size=3) | NUMBERS, max_size=5).map(lambda values: {"enum": values}),
        st.just({"$ref": "#/$defs/leaf"}),
        st.just({"$ref": "#/$defs/tree"}),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner},
            optional={"minItems": SIZES, "maxItems": SIZES, "uniqueItems": st.booleans()},
        ),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).flatmap(
            lambda properties: st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.just(properties),
                    "required": st.lists(st.sampled_from(list(properties)), unique=True),
                },
                optional={"minProperties": SIZES, "maxProperties": SIZES},
            )
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=6,
)


@given(node=SIZED)
@example(node={"type": "array", "items": {"enum": [10**400]}, "minItems": 10_000})
@example(node={"type": "array", "items": {"const": "x" * 400}, "minItems": 10_000})
@settings(max_examples=300)
def test_whatever_sizes_a_schema_asks_for_it_is_answered_in_bounds_or_refused(node: Any) -> None:
    schema = {
        **root(a=node),
        "$defs": {"leaf": STRING, "tree": root(below=nested(1, 0) | {"items": {"$ref": "#/$defs/tree"}})},
    }
    try:
        of_schema(schema)
        made = instance(schema)
    except (InvalidSchema, ExtractionFailed):
        return
    assert len(json.dumps(made)) < 3_000_000
