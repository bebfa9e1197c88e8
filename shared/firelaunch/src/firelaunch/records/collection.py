"""Declare a collection: its name, its model, whose records they are, and the queries that the app makes.

What is wrong with a declaration is refused when the app starts, because the declaration is a module's constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from ..errors import InvalidId, SettingsError
from ..scope import check_collection_name
from ..store.fence import UserField
from ..store.indexes import CompositeIndex
from ..store.reserved_paths import kept_names
from .fields import field_type
from .record import KEPT_FIELDS, Record
from .searchable import check_searchable
from .user_ids import OnErase, check_user_ids, user_id_fields
from .values import check_annotation, is_sortable

__all__ = ["Collection", "Migrate", "check_collections", "composite_indexes", "user_fields"]

M_co = TypeVar("M_co", bound=Record, covariant=True)
"""Covariant, so that type checkers see a list of two collections as one of ``Collection[Record]``."""

Migrate = Callable[[dict[str, Any], int], dict[str, Any]]
"""Takes an older record's stored fields and the version that wrote them; returns the fields as they are now."""

_OWNERS = ("user", "app", "group")


@dataclass(frozen=True, eq=False)
class Collection(Generic[M_co]):
    """A collection of an app's own records.

    Args:
        name: a lower-case letter, then at most 39 lower-case letters, digits and underscores.
        model: a subclass of :class:`Record`.
        owner: "user" if each user has records of their own, which nobody else reaches; "group" if the members of a
            group share its records; "app" if all users share them.
        queries: the queries of more than one field: for each, the names of the fields that it filters by equality, then
            of those that it compares or sorts by, with "-" before a field that descends.
        version: the version of the model. Raise it when ``migrate`` learns a new step.
        migrate: turns the fields of a record of an older version into those of this one.
        on_erase: for a collection of the app whose records name users in fields of type ``UserId``, and for each
            collection of groups: whether an erasure of such a user deletes the record, sets the field to None
            ("anonymize"), or has it name an owner of the group ("hand_over", in groups alone).
        written_by: for a collection of groups: the field, of type ``UserId | None``, that names the member who added
            the record. Firelaunch sets it, and no client can.
        searchable: the fields of text by which ``POST /v1/search`` and chats find the records: a user's own for that
            user, a group's for its members, the app's for all members. The first one is a hit's title.

    Raises:
        SettingsError: something about the declaration is wrong. The message names it.
    """

    name: str
    model: type[M_co]
    owner: Literal["user", "app", "group"] = "user"
    queries: Sequence[Sequence[str]] = ()
    version: int = 1
    migrate: Migrate | None = None
    on_erase: OnErase | None = None
    written_by: str = ""
    searchable: Sequence[str] = ()
    indexes: tuple[tuple[str, ...], ...] = field(init=False, default=())
    """The composite indexes that ``queries`` need, each as the names of its fields."""

    def __post_init__(self) -> None:
        try:
            check_collection_name(self.name)
        except InvalidId as error:
            raise SettingsError(f"collection {self.name!r}: {error.message}") from None
        if self.name in kept_names():
            raise SettingsError(f"collection {self.name!r}: firelaunch keeps that name for itself; choose another one.")
        if self.owner not in _OWNERS:
            raise SettingsError(f"collection {self.name!r}: owner is 'user', 'group' or 'app', not {self.owner!r}.")
        if type(self.version) is not int or self.version < 1:
            raise SettingsError(f"collection {self.name!r}: version is a whole number from 1.")
        _check_model(self.name, self.model)
        check_user_ids(f"collection {self.name!r}", self.model, self.owner, self.on_erase)
        check_searchable(f"collection {self.name!r}", self.model, self.searchable)
        self._check_writer()
        object.__setattr__(self, "indexes", tuple(self._index(query) for query in self.queries if len(query) > 1))

    def _check_writer(self) -> None:
        where = f"collection {self.name!r}"
        if self.owner != "group":
            if self.written_by:
                raise SettingsError(f"{where}: written_by is for collections with owner='group'.")
            return
        names = user_id_fields(self.model)
        if not self.written_by and (names or self.on_erase != "hand_over"):
            raise SettingsError(
                f"{where}: name the field that says who added a record: written_by='added_by', with added_by: UserId | "
                "None = None in the model. A collection without such fields has on_erase='hand_over'."
            )
        if self.written_by:
            if self.written_by not in names:
                raise SettingsError(
                    f"{where}: written_by: {self.model.__name__} has no field {self.written_by!r} of type UserId."
                )
            info = self.model.model_fields[self.written_by]
            if info.is_required() or info.get_default(call_default_factory=True) is not None:
                raise SettingsError(f"{where}: written_by: make {self.written_by} UserId | None = None.")

    def _index(self, query: Sequence[str]) -> tuple[str, ...]:
        if isinstance(query, str):
            raise SettingsError(f"collection {self.name!r}: queries is a list of tuples; write ({query!r},).")
        names = [name.removeprefix("-") for name in query]
        if len(set(names)) < len(names):
            raise SettingsError(f"collection {self.name!r}: the query {tuple(query)!r} names a field twice.")
        for name in names:
            annotation = field_type(self.model, name)
            if annotation is None:
                raise SettingsError(f"collection {self.name!r}: queries: {self.model.__name__} has no field {name!r}.")
            if not is_sortable(annotation):
                raise SettingsError(f"collection {self.name!r}: queries: no query sorts or compares by {name!r}.")
        return tuple(query)


def _check_model(collection: str, model: Any) -> None:
    where = f"collection {collection!r}"
    if not (isinstance(model, type) and issubclass(model, Record)):
        raise SettingsError(f"{where}: {model!r} is no subclass of firelaunch.Record.")
    where = f"{where}: {model.__name__}"
    if model.model_config.get("extra") == "allow":
        raise SettingsError(f"{where} allows extra fields, which would not be kept.")
    for name, info in model.model_fields.items():
        if name in KEPT_FIELDS:
            raise SettingsError(f"{where}.{name} is kept for you; name the field otherwise.")
        if not name.isascii():
            raise SettingsError(f"{where}.{name}: use ASCII letters in a field's name.")
        check_annotation(info.annotation, f"{where}.{name}")


def check_collections(collections: Sequence[Collection[Any]], *, groups: bool = True) -> None:
    """Refuse collections of the same name.

    Args:
        groups: whether the app has groups.

    Raises:
        SettingsError: two have the same name, one is no collection, or one is of groups that the app doesn't have.
    """
    for collection in collections:
        if not isinstance(collection, Collection):
            raise SettingsError(f"collections=[...]: {collection!r} is no Collection.")
        if collection.owner == "group" and not groups:
            raise SettingsError(
                f"collection {collection.name!r}: its records are groups' own, and no plan has groups. Give one some "
                "in firelaunch.toml: groups = 3"
            )
    name, count = Counter(collection.name for collection in collections).most_common(1)[0] if collections else ("", 0)
    if count > 1:
        raise SettingsError(f"collections=[...]: {count} collections are named {name!r}; name one of them otherwise.")


def composite_indexes(collections: Sequence[Collection[Any]]) -> list[CompositeIndex]:
    """Return the composite indexes that the collections' queries need, for the deploy."""
    indexes = {
        CompositeIndex(collection.name, fields): None for collection in collections for fields in collection.indexes
    }
    return list(indexes)


def user_fields(collections: Sequence[Collection[Any]]) -> list[UserField]:
    """Return the fields that name users in those of ``collections`` that users share."""
    return [
        UserField(collection.name, name, collection.on_erase, of_groups=collection.owner == "group")
        for collection in collections
        if collection.owner != "user" and collection.on_erase is not None
        for name in user_id_fields(collection.model)
    ]
