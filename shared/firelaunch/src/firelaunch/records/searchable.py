"""Fields whose text searches find, and that text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from types import NoneType
from typing import Any

from pydantic import BaseModel

from ..errors import SettingsError
from .fields import field_type
from .user_ids import user_id_fields
from .values import type_arguments

__all__ = ["check_searchable", "searchable_texts"]


def check_searchable(where: str, model: type[BaseModel], fields: Sequence[str]) -> None:
    """Refuse searchable fields that are no text.

    Args:
        where: how a message names the collection.

    Raises:
        SettingsError: the message names the field and the mend.
    """
    if isinstance(fields, str):
        raise SettingsError(f"{where}: searchable is a list of fields; write ({fields!r},).")
    for name in fields:
        annotation = field_type(model, name)
        if annotation is None:
            raise SettingsError(f"{where}: searchable: {model.__name__} has no field {name!r}.")
        if name in user_id_fields(model):
            raise SettingsError(f"{where}: searchable: {name!r} is a user's id, which is no text to search.")
        if not _is_text(annotation):
            raise SettingsError(f"{where}: searchable: {name!r} is no text. Only str and lists of str are.")
    if len(set(fields)) < len(fields):
        raise SettingsError(f"{where}: searchable names a field twice.")


def _is_text(annotation: Any) -> bool:
    origin, arguments = type_arguments(annotation)
    if origin in {list, tuple, set, frozenset}:
        return bool(arguments) and all(_is_text(argument) for argument in arguments)
    if origin is None:  # a union
        return all(argument is NoneType or _is_text(argument) for argument in arguments)
    return isinstance(origin, type) and issubclass(origin, str)


def searchable_texts(record: BaseModel, fields: Sequence[str]) -> Iterator[str]:
    """Yield the texts of a record's fields, without empty ones."""
    for name in fields:
        value: Any = record
        for part in name.split("."):
            value = getattr(value, part, None)
        for text in (
            [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | frozenset) else value or ()
        ):
            plain = text.value if isinstance(text, Enum) else text
            if isinstance(plain, str) and plain.strip():
                yield plain
