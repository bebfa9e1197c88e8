"""Say where a chat is kept, whose request it is, and who pays for its answers.

A user's own chats are below the user, and a group's below the group. Members of a group read its chats, and its editors
and owners write in them. Each message of a group's chat names its writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..identity.base import Caller
from ..scope import Scope
from ..store.guard import Guard
from ..store.scoped import ScopedStore

__all__ = ["ChatPlace", "is_of", "owner_of_chat"]


@dataclass(frozen=True, slots=True)
class ChatPlace:
    """The chats of one owner, as one user's request reaches them.

    Attributes:
        scope: the owner: the user, or a group.
        payer: whose day pays for answers.
        guard: the user's membership of the group, on which each access depends; None for the user's own chats.
    """

    caller: Caller
    scope: Scope
    payer: Scope
    guard: Guard | None = None

    @classmethod
    def own(cls, caller: Caller) -> ChatPlace:
        """Return the caller's own chats, for which the caller pays."""
        return cls(caller, caller.scope, caller.scope)

    def guarded(self, store: ScopedStore) -> ScopedStore:
        """Return ``store`` with the membership as a condition of each access."""
        return store if self.guard is None else store.within(store.scope, self.guard)

    @property
    def key_prefix(self) -> str:
        """The beginning of a request's key, so that equal keys of one user for chats of different owners don't meet."""
        return "" if self.scope.group is None else f"group\n{self.scope.group}\n"

    @property
    def names(self) -> Mapping[str, Any]:
        """The fields by which records of requests and calls name the group and the writer; none for own chats."""
        return {} if self.scope.group is None else {"group": self.scope.group, "writer": self.caller.uid}

    @property
    def author(self) -> Mapping[str, Any]:
        """The fields of a message that name its writer, as the group knows them; none in own chats."""
        if self.guard is None:
            return {}
        member = self.guard.member
        return {"written_by": self.caller.uid, "author": "" if member is None else str(member.data.get("name", ""))}


def owner_of_chat(app: Scope, record: Mapping[str, Any]) -> Scope:
    """Return the owner of the chat that a request's record is of."""
    return app.of(str(record["uid"])) if record.get("group") is None else app.of_group(str(record["group"]))


def is_of(record: Mapping[str, Any], scope: Scope) -> bool:
    """Return whether a request's record is of a chat of ``scope``: a user's own, or a group's."""
    return record.get("group") == scope.group and (scope.group is not None or record.get("uid") == scope.uid)
