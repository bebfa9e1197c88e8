"""Turn a record's values into those that Firestore keeps, and refuse what it cannot keep.

Times keep their moment. Dates, times of day, decimals, ids (UUID) and other types become strings that pydantic reads
back; durations become seconds, enums their values, sets sorted lists, and models maps.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Collection as AnyCollection
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..errors import BadRequest, SettingsError, StoreError, TooLarge
from ..store.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES, check_field_name, size_of

__all__ = ["check_annotation", "check_size", "is_sortable", "stored_fields", "stored_value", "type_arguments"]

_UNSORTABLE: Final = (Decimal, Mapping, list, tuple, set, frozenset, BaseModel)
"""Types whose stored form is not in the order of its values, or that no query compares."""

_MOST_SECONDS: Final = timedelta(timedelta.max.days).total_seconds()


def stored_fields(record: BaseModel) -> dict[str, Any]:
    """Return a model's fields as Firestore keeps them, under their own names.

    Raises:
        BadRequest: a value cannot be kept. The message names its field.
    """
    return _fields(record, "", 0)


def _fields(model: BaseModel, where: str, depth: int) -> dict[str, Any]:
    _check_depth(where, depth)
    names = type(model).model_fields
    return {name: stored_value(getattr(model, name), f"{where}{name}", depth + 1) for name in names}


def stored_value(value: Any, where: str, depth: int = 1) -> Any:  # noqa: C901 - a branch for each type of value
    """Return one value as Firestore keeps it.

    Raises:
        BadRequest: the value cannot be kept. The message begins with ``where``.
    """
    match value:
        case Enum():
            return stored_value(value.value, where, depth)
        case None | bool() | bytes():
            return value
        case int():
            if not -(2**63) <= value < 2**63:
                raise BadRequest(f"{where}: a whole number has at most 64 bits.")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise BadRequest(f"{where}: a number has to be finite.")
            return float(value)
        case str():
            return _text(value, where)
        case datetime():
            return _moment(value, where)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _seconds(value, where)
        case Decimal() | UUID():
            return str(value)
        case BaseModel():
            return _fields(value, f"{where}.", depth)
        case Mapping():
            _check_depth(where, depth)
            return {_name(key, where): stored_value(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return _items(value, where, depth)
    return _other(value, where, depth)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where}: the text is not valid Unicode.") from None
    return str(value)


def _moment(value: datetime, where: str) -> datetime:
    if value.utcoffset() is None:
        raise BadRequest(f"{where}: a time needs its zone, as in 2026-03-01T12:00:00Z.")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise BadRequest(f"{where}: a time lies in the years 1 to 9999 in UTC.") from None
    return value


def _seconds(value: timedelta, where: str) -> float:
    seconds = value.total_seconds()
    if abs(seconds) >= _MOST_SECONDS:  # rounded to a float, it may be more than is read back
        raise BadRequest(f"{where}: a duration has less than {timedelta.max.days:,} days.")
    return seconds


def _name(key: Any, where: str) -> str:
    name = stored_value(key, where)
    text = name if isinstance(name, str) else str(name)
    try:
        check_field_name(text)
    except StoreError as error:
        raise BadRequest(f"{where}: {error.reason}.") from None
    return text


def _check_depth(where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadRequest(f"{where}: values are nested at most {MAX_DEPTH} deep.")


def _items(value: AnyCollection[Any], where: str, depth: int) -> list[Any]:
    _check_depth(where, depth)
    items = [stored_value(item, f"{where}.{number}", depth + 1) for number, item in enumerate(value)]
    for number, item in enumerate(items):
        if isinstance(item, list):
            raise BadRequest(f"{where}.{number}: Firestore keeps no list directly in a list; put it into a model.")
    return _sorted(items) if isinstance(value, set | frozenset) else items


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # values of several types
        return sorted(items, key=lambda item: (type(item).__name__, repr(item)))


def _other(value: Any, where: str, depth: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        return {name: stored_value(getattr(value, name), f"{where}.{name}", depth + 1) for name in names}
    try:
        plain = to_jsonable_python(value)
    except PydanticSerializationError:
        raise BadRequest(f"{where}: a {type(value).__name__} cannot be kept.") from None
    return stored_value(plain, where, depth)


def check_size(path: str, data: Mapping[str, Any]) -> None:
    """Refuse a document that is larger than Firestore takes.

    Raises:
        TooLarge: it is.
    """
    try:
        size = size_of(path, data)
    except StoreError as error:
        raise TooLarge(f"The record is too large: {error.reason}.") from None
    if size > MAX_DOCUMENT_BYTES:
        raise TooLarge(f"The record has {size:,} bytes; at most {MAX_DOCUMENT_BYTES:,} can be kept.")


def check_annotation(annotation: Any, where: str) -> None:
    """Refuse the type of a field that Firestore cannot keep: a list directly in a list.

    Raises:
        SettingsError: it is one. The message begins with ``where``.
    """
    for inner, inner_where in _lists_in_lists(annotation, where, False, frozenset()):
        raise SettingsError(
            f"{inner_where}: Firestore keeps no list directly in a list ({inner}); put the inner one into a model."
        )


def _lists_in_lists(annotation: Any, where: str, in_list: bool, seen: frozenset[Any]) -> Iterator[tuple[Any, str]]:
    origin, arguments = type_arguments(annotation)
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        if origin not in seen:
            for name, field in origin.model_fields.items():
                yield from _lists_in_lists(field.annotation, f"{where}.{name}", False, seen | {origin})
        return
    is_map = isinstance(origin, type) and issubclass(origin, Mapping)
    is_list = (
        isinstance(origin, type) and issubclass(origin, AnyCollection) and not issubclass(origin, str | bytes | Mapping)
    )
    if is_list and in_list:
        yield annotation, where
    for argument in arguments:
        yield from _lists_in_lists(argument, where, is_list or (in_list and not is_map), seen)


def type_arguments(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type behind an annotation (None for a union) and the types it is made of."""
    if hasattr(annotation, "__value__"):  # a named alias (``type Tags = list[str]``)
        return type_arguments(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_arguments(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return None, get_args(annotation)
    return origin or annotation, tuple(each for each in get_args(annotation) if each is not Ellipsis)


def is_sortable(annotation: Any) -> bool:
    """Return whether the values of a type are kept in an order that queries may sort and compare by."""
    origin, arguments = type_arguments(annotation)
    if origin is None:
        return all(is_sortable(argument) for argument in arguments)
    return not (isinstance(origin, type) and issubclass(origin, _UNSORTABLE))
