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
    from .collection import Collection
    from .record import Record
    from .records import Records

__all__ = ["Data"]

M = TypeVar("M", bound="Record")


class Data:
    """The app's collections as one user, or the app, reaches them. Call it with a collection.

    A user's collections are reached below the bound user and nowhere else. The app's collections are reached by all.

    Args:
        store: the app's store.
        scope: the app, or the user, that this is bound to.
    """

    def __init__(self, store: ScopedStore, scope: Scope, retries: Retries, clock: Callable[[], datetime]) -> None:
        self.__store = store
        self.__scope = Scope.plain(scope)
        self.__retries = retries
        self.__clock = clock

    def within(self, scope: Scope) -> Data:
        """Return the same collections, bound to ``scope``.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        own = Scope.plain(scope)
        if own.app_id != self.__scope.app_id or self.__scope.uid not in {None, own.uid}:
            raise ScopeViolation(reason=f"data of {self.__scope.root} reached for {own.root}")
        return Data(self.__store, own, self.__retries, self.__clock)

    def __call__(self, collection: Collection[M]) -> Records[M]:
        """Return the collection's records.

        Raises:
            ScopeViolation: the collection is users' own, and no user is bound.
        """
        from .records import Records  # at first use: an app without collections starts without it

        # The records stay behind the wall of their owner. A transaction may combine the app's with one user's.
        store = self.__store.within(self._owner_of(collection))
        return Records(collection, store, self.__store.transaction, self._owner_of, self.__retries, self.__clock)

    def _owner_of(self, collection: Collection[Any]) -> Scope:
        from .collection import Collection

        if type(collection) is not Collection:
            raise SettingsError(f"{collection!r} is no Collection.")
        if collection.owner == "app":
            return Scope(self.__scope.app_id)
        if self.__scope.uid is None:
            raise ScopeViolation(
                reason=f"the collection {collection.name!r} is users' own: bind a user with data.within(scope.of(uid))"
            )
        return self.__scope
