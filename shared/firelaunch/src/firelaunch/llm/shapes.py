"""The form of a structured answer: a JSON schema or pydantic model, what to send for it, and the check of the answer.

jsonschema-rs checks the answer, because its regular expressions take linear time and it fetches nothing; clients' own
schemas need both. It is imported for the first shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ..errors import InvalidSchema
from .schema_size import check_size
from .strict_schema import accepts_null, resolve, strict_schema
from .types import Shape

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

__all__ = ["AnswerReader", "Misfit", "of_model", "of_schema"]

T = TypeVar("T")
_REGEX_BYTES = 1 << 20
"""The most bytes of one compiled pattern."""
_STEPS = 20_000
"""The most steps through an answer; each alternative of a schema takes its own steps."""
_ERRORS = 10
_ERROR_CHARACTERS = 2_000
"""The most characters that the model is told about its mistakes."""


class Misfit(Exception):
    """An answer that does not match its schema.

    The text is for the model. It may quote the answer, so it is not logged.
    """


@dataclass(frozen=True, slots=True)
class AnswerReader(Generic[T]):
    """A reader of answers of one shape.

    Args:
        make: turns checked data into the caller's object; raises ``Misfit``.
    """

    shape: Shape
    make: Callable[[Any], T]

    def read(self, text: str) -> T:
        """Return the data in ``text``.

        Raises:
            Misfit: it is not JSON, or does not match the shape.
        """
        try:
            data = from_json(text, allow_inf_nan=False)
        except ValueError as error:
            raise Misfit(f"It is not valid JSON: {error}") from None
        try:
            data = _NullRemover(self.shape.schema).removed(data, self.shape.schema)
        except RecursionError:
            raise Misfit("The answer lies too deep inside itself.") from None
        problems = [
            f"/{'/'.join(map(str, error.instance_path))}: {error.message}"
            for error, _ in zip(_validator(self.shape.schema).iter_errors(data), range(_ERRORS), strict=False)
        ]
        if problems:
            raise Misfit("\n".join(problems)[:_ERROR_CHARACTERS])
        return self.make(data)

    def fits(self, text: str) -> bool:
        """Return whether ``text`` can be read."""
        try:
            self.read(text)
        except Misfit:
            return False
        return True


def of_schema(schema: Mapping[str, Any], name: str = "answer") -> AnswerReader[dict[str, Any]]:
    """Return the reader for a JSON schema (2020-12).

    Raises:
        InvalidSchema: the schema is invalid, or no model could be held to it.
    """
    strict = _checked_strict_form(schema)
    return AnswerReader(Shape(name, schema, strict), lambda data: cast("dict[str, Any]", data))


def _checked_strict_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strict form of a valid schema whose answers can be written and checked."""
    try:
        strict = strict_schema(schema)
        _validator(schema)
        check_size(schema)
    except RecursionError:
        raise InvalidSchema("Its parts lie too deep inside each other; use fewer anyOf, allOf and $ref.") from None
    return strict


M = TypeVar("M", bound=BaseModel)


def of_model(model: type[M]) -> AnswerReader[M]:
    """Return the reader for a pydantic model, whose own validators run last.

    Raises:
        InvalidSchema: a language model cannot produce a field's type.
    """
    schema = model.model_json_schema()
    strict = _checked_strict_form(schema)

    def make(data: Any) -> M:
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)[:_ERRORS]
            lines = [f"/{'/'.join(map(str, item['loc']))}: {item['msg']}" for item in problems]
            raise Misfit("\n".join(lines)[:_ERROR_CHARACTERS]) from None

    return AnswerReader(Shape(model.__name__[:64], schema, strict), make)


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions
    from jsonschema_rs import ValidationError as Invalid

    plain = {key: value for key, value in schema.items() if key != "$schema"}
    try:
        return Draft202012Validator(
            plain, validate_formats=True, offline=True, pattern_options=RegexOptions(size_limit=_REGEX_BYTES)
        )
    except Invalid as error:
        where = "/".join(map(str, error.instance_path))
        raise InvalidSchema(f"/{where}: {error.message[:200]}.") from None
    except (ReferencingError, ValueError) as error:
        raise InvalidSchema(f"{str(error)[:200]}.") from None


class _NullRemover:
    """Removes the nulls that stand for omitted properties (see :mod:`firelaunch.llm.strict_schema`)."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        self._validators: dict[int, Draft202012Validator] = {}
        self._steps = 0

    def removed(self, value: Any, node: Any) -> Any:
        """Return ``value``, an answer to ``node`` of the schema, without those nulls.

        Raises:
            Misfit: nested alternatives take too long to tell apart.
        """
        self._steps += 1
        if self._steps > _STEPS:
            raise Misfit("The answer is too long for a schema with so many alternatives.")
        node = resolve(node, self._schema)
        if "allOf" in node:
            return self.removed(value, node["allOf"][0])
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            candidates = ((self.removed(value, option), option) for option in options)
            return next((candidate for candidate, option in candidates if self._fits(candidate, option)), value)
        if isinstance(value, list) and "items" in node:
            return [self.removed(item, node["items"]) for item in value]
        return self._object(value, node) if isinstance(value, dict) else value

    def _object(self, value: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
        properties, required = node.get("properties", {}), node.get("required", ())
        kept = {}
        for key, item in value.items():
            inner = properties.get(key)
            if item is None and inner is not None and key not in required and not accepts_null(inner, self._schema):
                continue
            kept[key] = item if inner is None else self.removed(item, inner)
        return kept

    def _fits(self, value: Any, option: Mapping[str, Any]) -> bool:
        validator = self._validators.get(id(option))
        if validator is None:
            validator = self._validators[id(option)] = _validator({**self._definitions, **option})
        return validator.is_valid(value)
