"""Find the chats that a request is about: the caller's own, or those of one of the caller's groups."""

from __future__ import annotations

from ..chats.place import ChatPlace
from ..errors import NoGroupChats
from ..identity import Caller
from .bundle import Services

__all__ = ["chat_place"]


def chat_place(services: Services, caller: Caller, group: str | None, *, writes: bool = False) -> ChatPlace:
    """Return the chats that a request is about, and who pays for answers in them.

    Whether the caller is a member is checked with the first read of the group's data, which raises NotFound.

    Args:
        group: the group's id; None or empty for the caller's own chats.
        writes: whether the caller is to write, so that the first read raises Forbidden for a viewer.

    Raises:
        NoGroupChats: groups of this app have no chats.
        InvalidId: ``group`` is no id.
    """
    if not group:
        return ChatPlace.own(caller)
    paid_by = services.settings.groups.chats_paid_by
    if paid_by is None:
        raise NoGroupChats
    from .groups import guard_of  # an app without groups starts without it

    place = caller.scope.of_group(group)
    payer = place if paid_by == "group" else caller.scope
    return ChatPlace(caller, place, payer, guard_of(place, caller.uid, writes=writes))
