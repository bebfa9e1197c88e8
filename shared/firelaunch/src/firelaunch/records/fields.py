"""Find a model's fields by the names that queries use, and check the values that they are compared with."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import BadRequest
from .values import stored_value, type_arguments

__all__ = ["compared_value", "field_type"]

_TIMES = ("created_at", "updated_at")


def field_type(model: type[BaseModel], name: str) -> Any:
    """Return the annotation of a field, by its name or its dotted path into models; None if there is no such field."""
    first, _, rest = name.partition(".")
    if first in _TIMES and not rest:
        return datetime
    info = model.model_fields.get(first)
    if info is None or not rest:
        return None if info is None else info.annotation
    origin, arguments = type_arguments(info.annotation)
    for candidate in arguments if origin is None else (origin,):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return field_type(candidate, rest)
    return None


def compared_value(model: type[BaseModel], name: str, value: Any) -> Any:
    """Return a filter's value as Firestore keeps values of the field.

    Raises:
        BadRequest: the value is of another type than the field's.
    """
    try:
        return stored_value(_adapter(model, name).validate_python(value), f"where: {name}")
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadRequest(f"where: {name}: {problem['msg']}") from None


@lru_cache(maxsize=1000)
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(field_type(model, name))
