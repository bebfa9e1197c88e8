"""Fields that name users, in collections that all users of an app share, and what becomes of them with an erasure.

A user's own collections are removed with the user. A collection of the app or of groups stays, so it says what happens
to the records that name an erased user: see ``Collection.on_erase``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from ..errors import SettingsError

__all__ = ["OnErase", "UserId", "check_user_ids", "user_id_fields"]

OnErase = Literal["delete", "anonymize", "hand_over"]


class _NamesUser:
    """Marks the type of a field that holds a user's id."""


UserId = Annotated[str, Field(min_length=1, max_length=128), _NamesUser()]
"""The id of a user of the app (``caller().uid``), as a field of a record that several users share."""

_USUAL_NAMES: Final = ("uid", "user", "user_id")
_USUAL_ENDS: Final = ("_uid", "_user_id")


def check_user_ids(where: str, model: type[BaseModel], owner: str, on_erase: OnErase | None) -> None:
    """Refuse fields that name users where an erasure would not find them, or would not know what to do.

    Args:
        where: how a message names the collection.

    Raises:
        SettingsError: the message names the field and the mend.
    """
    choices = ("delete", "anonymize", *(("hand_over",) if owner == "group" else ()))
    if on_erase is not None and on_erase not in choices:
        raise SettingsError(f"{where}: on_erase is {' or '.join(map(repr, choices))}, not {on_erase!r}.")
    names = user_id_fields(model)
    hidden = [name for name, info in model.model_fields.items() if name not in names and _names_user(info.annotation)]
    field = next(iter(hidden), None) or next(iter(names), None)
    if owner == "user":
        if field is not None:
            raise SettingsError(
                f"{where}: {model.__name__}.{field} names a user in records that belong to another one, where no "
                "erasure looks for it. Keep such records in a collection with owner='app'."
            )
        return
    if hidden:
        raise SettingsError(
            f"{where}: {model.__name__}.{field} holds user ids inside a list or a model, where no erasure finds them. "
            "Use a field of type UserId, or UserId | None."
        )
    _check_usual_names(where, model, names)
    if owner == "group" and on_erase is None:
        raise SettingsError(
            f"{where}: say what an erasure of a member does with what they wrote: on_erase='delete', 'anonymize' or "
            "'hand_over', by which it names an owner of the group."
        )
    if on_erase != "hand_over" or names:
        _check_choice(where, model, names, on_erase)


def _check_usual_names(where: str, model: type[BaseModel], names: Sequence[str]) -> None:
    for name, info in model.model_fields.items():
        is_usual = name in _USUAL_NAMES or name.endswith(_USUAL_ENDS)
        if is_usual and name not in names and str in {info.annotation, *get_args(info.annotation)}:
            raise SettingsError(
                f"{where}: {model.__name__}.{name} looks like a user's id. Give it the type UserId, so that an erasure "
                "of the user finds it, or another name."
            )


def _check_choice(where: str, model: type[BaseModel], names: Sequence[str], on_erase: OnErase | None) -> None:
    if names and on_erase is None:
        raise SettingsError(
            f"{where}: {model.__name__}.{names[0]} names a user. Say what an erasure of the user does with the record: "
            "on_erase='delete' or on_erase='anonymize'."
        )
    if not names and on_erase is not None:
        raise SettingsError(f"{where}: on_erase is set, and {model.__name__} has no field of type UserId.")
    for name in names:
        info = model.model_fields[name]
        if on_erase == "anonymize" and (info.is_required() or info.get_default(call_default_factory=True) is not None):
            raise SettingsError(
                f"{where}: {model.__name__}.{name} cannot be anonymized: make it UserId | None = None, or use "
                "on_erase='delete'."
            )


def user_id_fields(model: type[BaseModel]) -> list[str]:
    """Return the names of the model's fields that hold a user's id."""
    return [name for name, info in model.model_fields.items() if _holds_user(info)]


def _holds_user(info: FieldInfo) -> bool:
    """Return whether a field's value itself is a user's id, or None."""
    if any(isinstance(mark, _NamesUser) for mark in info.metadata):
        return get_origin(info.annotation) is None
    return (
        any(_is_user_id(part) for part in get_args(info.annotation)) and get_origin(info.annotation) not in _CONTAINERS
    )


_CONTAINERS: Final = (list, tuple, set, frozenset, dict)


def _is_user_id(annotation: Any) -> bool:
    return any(isinstance(mark, _NamesUser) for mark in getattr(annotation, "__metadata__", ()))


def _names_user(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Return whether a user's id is anywhere in values of this type."""
    if _is_user_id(annotation):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        return any(
            _holds_user(info) or _names_user(info.annotation, seen | {annotation})
            for info in annotation.model_fields.values()
        )
    return any(_names_user(part, seen) for part in get_args(annotation))
