"""Bind an app's collections to one scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ScopeViolation, SettingsError
from ..metering.retries import Retries
from ..scope import Scope
from ..store.scoped import ScopedStore

if TYPE_CHECKING:
    from ..store.guard import Guard
    from .collection import Collection
    from .record import Record
    from .records import Records

__all__ = ["Data"]

M = TypeVar("M", bound="Record")

Declared = list[tuple["Collection[Any]", ...]]
"""The app's collections as its one entry, or empty before :meth:`Data.declare`. What is bound from one shares it."""


class Data:
    """The app's collections as one user, one group, or the app, reaches them. Call it with a collection.

    A user's collections are reached below the bound user and nowhere else, and a group's below the bound group. The
    app's collections are reached by all.

    Args:
        store: the app's store.
        scope: the app, the user, or the group, that this is bound to.
        writer: the id of the user whom records that are added name as their writer.
    """

    def __init__(
        self,
        store: ScopedStore,
        scope: Scope,
        retries: Retries,
        clock: Callable[[], datetime],
        writer: str | None = None,
        declared: Declared | None = None,
    ) -> None:
        self.__declared = declared if declared is not None else []
        self.__store = store
        self.__scope = Scope.plain(scope)
        self.__retries = retries
        self.__clock = clock
        self.__writer = writer

    def declare(self, collections: Sequence[Collection[Any]]) -> None:
        """Reach these collections alone from now on, also from what was bound to a scope before."""
        self.__declared[:] = [tuple(collections)]

    def within(self, scope: Scope) -> Data:
        """Return the same collections, bound to ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        own = Scope.plain(scope)
        if own.app_id != self.__scope.app_id or self.__scope.uid not in {None, own.uid}:
            raise ScopeViolation(reason=f"data of {self.__scope.root} reached for {own.root}")
        return Data(self.__store, own, self.__retries, self.__clock, self.__writer, self.__declared)

    def for_member(self, group: Scope, uid: str, guard: Guard) -> Data:
        """Return the collections of a group, and the app's, for one member's request.

        Args:
            guard: the membership, on which each access depends.

        Raises:
            ScopeViolation: ``group`` is not inside this scope.
        """
        bound = self.within(group)
        store = self.__store.within(self.__store.scope, guard)
        return Data(store, bound.__scope, self.__retries, self.__clock, uid, self.__declared)

    def __call__(self, collection: Collection[M]) -> Records[M]:
        """Return the collection's records.

        Raises:
            ScopeViolation: the collection is users' own, and no user is bound; or groups' own, and no group is.
            SettingsError: the app does not declare the collection.
        """
        from .records import Records  # at first use: an app without collections starts without it

        # The records stay behind the wall of their owner. A transaction may combine the app's with one user's.
        store = self.__store.within(self._owner_of(collection))
        transact = self.__store.transaction
        return Records(collection, store, transact, self._owner_of, self.__retries, self.__clock, self.__writer)

    def _owner_of(self, collection: Collection[Any]) -> Scope:
        from .collection import Collection

        if type(collection) is not Collection:
            raise SettingsError(f"{collection!r} is no Collection.")
        self.__check_declared(collection)
        if collection.owner == "app":
            return Scope(self.__scope.app_id)
        name, group = collection.name, self.__scope.group
        if collection.owner == "group" and group is None:
            raise ScopeViolation(
                reason=f"the collection {name!r} is groups' own, and no group is bound: in a view call data({name}, "
                f"group=id); in a workflow turn.scope.group is None here, as the chat is no group's"
            )
        if collection.owner == "user" and group is not None:
            raise ScopeViolation(
                reason=f"the collection {name!r} is users' own, and a group is bound, where nobody's own records are "
                "reached: in a workflow look at turn.scope.group, which is None in a chat of a user's own"
            )
        if collection.owner == "user" and self.__scope.uid is None:
            raise ScopeViolation(
                reason=f"the collection {name!r} is users' own, and no user is bound: take services.within(user).data"
            )
        return self.__scope

    def __check_declared(self, collection: Collection[Any]) -> None:
        # Erasures and exports know of the users whom records name by the declared collections alone.
        if not self.__declared or collection in self.__declared[0]:
            return
        name = collection.name
        if any(each.name == name for each in self.__declared[0]):
            raise SettingsError(
                f"data({name!r}): App(collections=[...]) has another Collection of this name. Use that."
            )
        raise SettingsError(f"data({name!r}): the app does not declare the collection. Add it: App(collections=[...]).")
