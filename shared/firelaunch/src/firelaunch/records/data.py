"""Bind an app's collections to one scope."""

from __future__ import annotations

from collections.abc import Callable
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
    ) -> None:
        self.__store = store
        self.__scope = Scope.plain(scope)
        self.__retries = retries
        self.__clock = clock
        self.__writer = writer

    def within(self, scope: Scope) -> Data:
        """Return the same collections, bound to ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        own = Scope.plain(scope)
        if own.app_id != self.__scope.app_id or self.__scope.uid not in {None, own.uid}:
            raise ScopeViolation(reason=f"data of {self.__scope.root} reached for {own.root}")
        return Data(self.__store, own, self.__retries, self.__clock, self.__writer)

    def for_member(self, group: Scope, uid: str, guard: Guard) -> Data:
        """Return the collections of a group, and the app's, for one member's request.

        Args:
            guard: the membership, on which each access depends.

        Raises:
            ScopeViolation: ``group`` is not inside this scope.
        """
        bound = self.within(group)
        return Data(self.__store.within(self.__store.scope, guard), bound.__scope, self.__retries, self.__clock, uid)

    def __call__(self, collection: Collection[M]) -> Records[M]:
        """Return the collection's records.

        Raises:
            ScopeViolation: the collection is users' own, and no user is bound.
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
        if collection.owner == "app":
            return Scope(self.__scope.app_id)
        if collection.owner == "group":
            if self.__scope.group is None:
                raise ScopeViolation(
                    reason=f"the collection {collection.name!r} is groups' own: name one, as in data(meals, group=id)"
                )
        elif self.__scope.uid is None or self.__scope.group is not None:
            raise ScopeViolation(
                reason=f"the collection {collection.name!r} is users' own: bind a user with data.within(scope.of(uid))"
            )
        return self.__scope
