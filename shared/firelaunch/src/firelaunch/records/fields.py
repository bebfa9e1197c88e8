"""Find a model's fields by the names that queries use, and check the values that they are compared with."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, Union

from pydantic import BaseModel, Strict, TypeAdapter, ValidationError

from ..errors import BadRequest
from .values import is_sortable, stored_value, type_arguments

__all__ = ["compared_value", "field_type", "item_type"]

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


def item_type(annotation: Any) -> Any:
    """Return the type of the items of a list or a set of plain values; None if an annotation is of no such type."""
    origin, arguments = type_arguments(annotation)
    if origin is None:  # a union
        return next((item for each in arguments if (item := item_type(each)) is not None), None)
    is_list = isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset)
    if not (is_list and arguments and all(map(is_sortable, arguments))):
        return None
    return Union[arguments]  # noqa: UP007 - made of a tuple


def compared_value(model: type[BaseModel], name: str, value: Any, *, item: bool = False) -> Any:
    """Return a filter's value as Firestore keeps values of the field.

    Args:
        item: compare with the items of the field's list.

    Raises:
        BadRequest: the model takes no such value for the field.
    """
    try:
        adapter, strict = _adapter(model, name, item)
        return stored_value(adapter.validate_python(value, strict=strict), f"where: {name}")
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadRequest(f"where: {name}: {problem['msg']}") from None


@lru_cache(maxsize=1000)
def _adapter(model: type[BaseModel], name: str, item: bool) -> tuple[TypeAdapter[Any], bool | None]:
    """Return what reads a filter's value, and whether it takes values of the field's own type alone.

    A filter takes what the model takes. A field's limits don't count: "less than 2,000" may be over them.
    """
    annotation = field_type(model, name)
    return TypeAdapter(item_type(annotation) if item else annotation), _is_strict(model, name)


def _is_strict(model: type[BaseModel], name: str) -> bool | None:
    first, _, rest = name.partition(".")
    info = model.model_fields.get(first)
    if info is None:
        return None
    if not rest:
        of_field = next((each.strict for each in info.metadata if isinstance(each, Strict)), None)
        return model.model_config.get("strict") if of_field is None else of_field
    origin, arguments = type_arguments(info.annotation)
    inner = (each for each in (arguments if origin is None else (origin,)) if isinstance(each, type))
    return next((_is_strict(each, rest) for each in inner if issubclass(each, BaseModel)), None)
