"""Groups of users: who is in which one, with what role, and how they come and go.

``apps/{app}/groups/{group}`` is the group, and ``members/{uid}`` below it says what each member may do. That document
decides each request for a group's data, so a change holds at once. ``users/{uid}/memberships/{group}`` is a copy, by
which a user's groups are found. It stays when they leave, without a role. One transaction writes all three.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal, get_args

from ..billing.entitlements import Entitlements
from ..errors import Conflict, Forbidden, InvalidId, NotFound
from ..identity.base import Caller
from ..membership.invites import Invitation, InviteInvalid, checked_invite, invite_path, new_invitation, use_of
from ..membership.policy import Policy
from ..membership.removals import Removed
from ..metering.reservations import Day
from ..paging import Page
from ..records.cursors import cursor_of, position_of
from ..scope import GROUP, Scope, check_uid
from ..store.audit import OPERATOR, audit_writes
from ..store.base import (
    DELETE_FIELD,
    Create,
    Delete,
    Document,
    Filter,
    Increment,
    Order,
    Query,
    Set,
    Transaction,
    Update,
    Write,
)
from ..store.fence import CLOSED
from ..store.guard import Guard
from ..store.scoped import ScopedStore

__all__ = [
    "ROLES",
    "Group",
    "GroupRole",
    "Groups",
    "LastOwner",
    "Member",
    "TooManyGroups",
    "TooManyMembers",
    "check_member",
    "check_owner",
    "forget_group",
    "forget_member",
    "guard_of",
    "owner_of",
]

GroupRole = Literal["viewer", "editor", "owner"]

ROLES: Final[tuple[str, ...]] = get_args(GroupRole)
"""The roles in a group, lowest first: a viewer reads, an editor writes, and an owner manages the group."""

_OLDEST = (Order("joined_at"),)

_PAGE = 300

_KEPT_DAYS = 30
"""Days for which a deleted group is remembered, so that nothing that began before writes to it any more."""


class LastOwner(Conflict):
    """The group would have no owner."""

    code = "last_owner"
    message = "A group keeps an owner: make another member an owner first, or delete the group."


class TooManyGroups(Conflict):
    """The user owns as many groups as their plan allows."""

    code = "too_many_groups"
    message = "You own as many groups as your plan allows."


class TooManyMembers(Conflict):
    """The group has as many members as its plan allows."""

    code = "too_many_members"
    message = "This group has as many members as its plan allows."


@dataclass(frozen=True, slots=True)
class Group:
    """A group as one of its members sees it. ``role`` is that member's."""

    id: str
    name: str
    role: str
    members: int
    domains: tuple[str, ...]
    domain_role: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group. ``name`` is what they call themselves there."""

    uid: str
    role: str
    name: str
    joined_at: datetime


class Groups:
    """The groups of one app.

    Every method that takes a ``group`` raises NotFound if there is no such group, or if the caller is no member of it.

    Args:
        store: the app's store.
        entitlements: what the plans of users and of groups allow.
    """

    def __init__(self, store: ScopedStore, entitlements: Entitlements, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._entitlements = entitlements
        self._clock = clock

    def make(self, caller: Caller, name: str, domains: Sequence[str], domain_role: str, called: str) -> Group:
        """Make a group with the caller as its owner.

        Args:
            domains: domains of e-mail addresses whose users may join without an invitation.
            domain_role: the role that those users get.
            called: the caller's name in the group.

        Raises:
            TooManyGroups: the caller's plan allows no more, or the caller has made as many today as it allows.
        """
        user, now = caller.scope, self._clock()
        place, day = user.of_group("g" + secrets.token_hex(12)), now.astimezone(UTC).date().isoformat()

        def work(transaction: Transaction) -> Group:
            limit = self._check_owned(transaction, user, "You own as many groups as your plan allows.")
            # Each group has a day's budget of its own, so whoever deletes groups must not get new ones without end.
            used = Day.of(transaction.get(user.usage(day)), transaction.get(user.erasure()), day)
            if used.groups_made >= limit:
                raise TooManyGroups("You made as many groups today as your plan allows. Make this one tomorrow.")
            facts = {"name": name, "domains": [each.lower() for each in domains], "domain_role": domain_role}
            counts = {"members": 1, "owners": 1, "invites": 0}
            data = {**facts, **counts, "created_at": now, "updated_at": now}
            counted = Set(user.usage(day), {"groups_made": Increment(1)}, merge=True)
            transaction.write(_passed(user, now), counted, Create(place.root, data))
            transaction.write(*_member_writes(place, caller.uid, "owner", called, now))
            transaction.write(*_told(place, "group.made", caller.uid, now))
            return _view(place, data, "owner")

        return self._store.transaction(work)

    def mine(self, user: Scope, limit: int, cursor: str | None) -> Page[Group]:
        """Return a page of the groups that a user is a member of, in the order in which they joined.

        Raises:
            InvalidCursor: ``cursor`` is not one of this list's.
        """
        query = Query(user.memberships(), order=_OLDEST)
        page = Query(user.memberships(), order=_OLDEST, limit=limit + 1, after=position_of(query, cursor))
        found = self._store.query(page)
        places = [user.of_group(entry.id) for entry in found[:limit]]
        paths = [path for place in places for path in (place.root, place.group_member(str(user.uid)))]
        documents = self._store.get_many(paths)
        pairs = zip(places, documents[::2], documents[1::2], strict=True)
        groups = [
            _view(place, group.data, member.data["role"])
            for place, group, member in pairs
            if group is not None and member is not None
        ]
        return Page(groups, _next_cursor(query, found, limit))

    def get(self, user: Scope, group: str) -> Group:
        """Return one group that the user is a member of."""
        place = user.of_group(group)
        document, member = self._store.get_many([place.root, place.group_member(str(user.uid))])
        if document is None or member is None:
            raise NotFound
        return _view(place, document.data, member.data["role"])

    def change(self, caller: Caller, group: str, changes: dict[str, Any]) -> Group:
        """Change a group's name, or who may join it by their e-mail address.

        Args:
            changes: new values of ``name``, ``domains`` and ``domain_role``.

        Raises:
            Forbidden: the caller is no owner.
        """
        place, now = caller.scope.of_group(group), self._clock()
        if "domains" in changes:
            changes = {**changes, "domains": [each.lower() for each in changes["domains"]]}

        def work(transaction: Transaction) -> Group:
            document = self._owned(transaction, place, caller.uid)
            transaction.write(Update(place.root, {**changes, "updated_at": now}))
            return _view(place, {**document.data, **changes}, "owner")

        return self._store.transaction(work)

    def close(self, caller: Caller, group: str, removal: Sequence[Write]) -> None:
        """Delete a group. Nothing can be written to it any more, and its members see it no more.

        Args:
            removal: the writes that have the group's data removed, such as a job. They go into the same commit.

        Raises:
            Forbidden: the caller is no owner.
        """
        place, now = caller.scope.of_group(group), self._clock()
        fence = {"begun_at": now, "delete_at": now + timedelta(days=_KEPT_DAYS), CLOSED: True}

        def work(transaction: Transaction) -> None:
            self._owned(transaction, place, caller.uid)
            own = Delete(place.group_member(caller.uid)), Delete(caller.scope.membership(group))
            transaction.write(Set(place.erasure(), fence), Delete(place.root), *own, *removal)
            transaction.write(*_told(place, "group.deleted", caller.uid, now))

        self._store.transaction(work)

    def join(self, caller: Caller, group: str, code: str | None, called: str) -> Group:
        """Make the caller a member, by an invitation's code or by their e-mail address.

        A member gets the role that is offered if that is higher than theirs. Nobody gets a lower role.

        Raises:
            Removed: an owner removed the caller, and nobody has readmitted them since.
            InviteInvalid: the code does not hold (any more).
            Forbidden: the group doesn't take the caller's e-mail address.
            TooManyMembers: the group's plan allows no more members.
        """
        place, now = caller.scope.of_group(group), self._clock()

        def work(transaction: Transaction) -> Group:
            document, before = transaction.get(place.root), transaction.get(place.group_member(caller.uid))
            if document is None:
                raise NotFound if code is None else InviteInvalid
            if transaction.get(place.removal(caller.uid)) is not None:
                raise Removed("You were removed from this group. Ask one of its owners to readmit you.")
            held = None if before is None else str(before.data["role"])
            uses: list[Write] = []
            if code is None:
                role = held or _offer_by_email(document, caller)
            else:
                invite = checked_invite(transaction.get(invite_path(place, code)), now)
                if invite.data["round"] != document.data["invites"]:
                    raise InviteInvalid
                role = _higher(held, str(invite.data["role"]))
                uses = [Update(invite.path, use_of(invite))] if role != held else []
            if role == held:
                return _view(place, document.data, role)
            if before is None:
                self._check_room(document)
            counts = _counts(document, held, role)
            transaction.write(*uses, Update(place.root, counts))
            transaction.write(*_member_writes(place, caller.uid, role, called, now, before))
            return _view(place, {**document.data, **counts}, role)

        return self._store.transaction(work)

    def members(self, user: Scope, group: str, limit: int, cursor: str | None) -> Page[Member]:
        """Return a page of a group's members, in the order in which they joined.

        Raises:
            InvalidCursor: ``cursor`` is not one of this list's.
        """
        place = user.of_group(group)
        query = Query(place.group_members(), order=_OLDEST)
        page = Query(place.group_members(), order=_OLDEST, limit=limit + 1, after=position_of(query, cursor))
        [document, own], [found] = self._store.read([place.root, place.group_member(str(user.uid))], [page])
        if document is None or own is None:
            raise NotFound
        return Page([_member(each) for each in found[:limit]], _next_cursor(query, found, limit))

    def set_role(self, caller: Caller, group: str, uid: str, role: str) -> Member:
        """Give a member another role.

        Raises:
            Forbidden: the caller is no owner.
            NotFound: ``uid`` is no member.
            LastOwner: the group would have no owner.
            TooManyGroups: they are to be an owner, and own as many groups as their plan allows.
        """
        place, now = caller.scope.of_group(group), self._clock()

        def work(transaction: Transaction) -> Member:
            document = self._owned(transaction, place, caller.uid)
            member = _found(transaction.get(place.group_member(_user_id(uid))))
            held = str(member.data["role"])
            if held == role:
                return _member(member)
            if role == "owner":
                owner = place.of(uid)
                self._check_owned(transaction, owner, "They own as many groups as their plan allows.")
                transaction.write(_passed(owner, now))
            counts = _counts(document, held, role)
            # An owner who is one no more may still know the invitations that they made.
            counts |= _withdrawn(document) if held == "owner" else {}
            facts = {"before": {"group": group, "role": held}, "after": {"group": group, "role": role}}
            transaction.write(Update(place.root, counts))
            transaction.write(*_member_writes(place, uid, role, str(member.data["name"]), now, member))
            transaction.write(*audit_writes(place, "role.changed", caller.uid, now, whom=uid, **facts))
            return _member(member, role)

        return self._store.transaction(work)

    def rename_member(self, caller: Caller, group: str, uid: str, name: str) -> Member:
        """Change what the caller is called in a group.

        Raises:
            Forbidden: ``uid`` is somebody else.
        """
        place = caller.scope.of_group(group)

        def work(transaction: Transaction) -> Member:
            document, own = transaction.get(place.root), transaction.get(place.group_member(caller.uid))
            if document is None or own is None:
                raise NotFound
            if uid != caller.uid:
                raise Forbidden("Members name themselves: nobody else may.")
            transaction.write(Update(own.path, {"name": name}))
            return replace(_member(own), name=name)

        return self._store.transaction(work)

    def remove(self, caller: Caller, group: str, uid: str) -> None:
        """End a membership: the caller's own, or another user's, who is kept out until :meth:`readmit`.

        The removal of another user also withdraws all invitations of the group, as that user may know one of them and
        have a second account. Somebody who is no member at the moment is kept out as well.

        Raises:
            Forbidden: another user is to be removed, and the caller is no owner.
            LastOwner: the caller is the last owner.
        """
        place, now = caller.scope.of_group(group), self._clock()

        def leave(transaction: Transaction) -> None:
            document, own = transaction.get(place.root), transaction.get(place.group_member(caller.uid))
            if document is None or own is None:
                raise NotFound
            transaction.write(Update(place.root, _counts(document, str(own.data["role"]), None)))
            transaction.write(*_leaving(place, caller.uid))

        def expel(transaction: Transaction) -> None:
            document = self._owned(transaction, place, caller.uid)
            member = transaction.get(place.group_member(_user_id(uid)))
            held = None if member is None else str(member.data["role"])
            counts = {} if held is None else _counts(document, held, None)
            transaction.write(Update(place.root, {**counts, **_withdrawn(document)}))
            transaction.write(*(() if held is None else _leaving(place, uid)))
            transaction.write(Set(place.removal(uid), {"removed_at": now}))
            facts = {"before": {"group": group, "role": held}}
            transaction.write(*audit_writes(place, "member.removed", caller.uid, now, whom=uid, **facts))

        self._store.transaction(leave if uid == caller.uid else expel)

    def readmit(self, caller: Caller, group: str, uid: str) -> None:
        """Let a removed user join again. Nothing happens if they were not removed.

        Raises:
            Forbidden: the caller is no owner.
        """
        place, now = caller.scope.of_group(group), self._clock()

        def work(transaction: Transaction) -> None:
            self._owned(transaction, place, caller.uid)
            if transaction.get(place.removal(_user_id(uid))) is not None:
                facts = {"after": {"group": group}}
                told = audit_writes(place, "member.readmitted", caller.uid, now, whom=uid, **facts)
                transaction.write(Delete(place.removal(uid)), *told)

        self._store.transaction(work)

    def invite(self, caller: Caller, group: str, role: str, *, uses: int, valid_for: timedelta) -> Invitation:
        """Create an invitation to a group.

        Raises:
            Forbidden: the caller is no owner.
        """
        place, now = caller.scope.of_group(group), self._clock()

        def work(transaction: Transaction) -> Invitation:
            document = self._owned(transaction, place, caller.uid)
            of_round = {"round": document.data["invites"]}
            invitation, writes = new_invitation(place, role, uses, valid_for, caller.uid, now, **of_round)
            transaction.write(*writes)
            return invitation

        return self._store.transaction(work)

    def withdraw_invitations(self, caller: Caller, group: str) -> None:
        """End all invitations of a group.

        Raises:
            Forbidden: the caller is no owner.
        """
        place = caller.scope.of_group(group)

        def work(transaction: Transaction) -> None:
            transaction.write(Update(place.root, _withdrawn(self._owned(transaction, place, caller.uid))))

        self._store.transaction(work)

    def _check_owned(self, transaction: Transaction, user: Scope, says: str) -> int:
        """Check that the user may own one more group, and return how many they may own.

        The transaction has to write what :func:`_passed` returns, so that the count stays exact.
        """
        transaction.get(user.groups_gate())
        limit = self._entitlements.of(transaction.get(user.root)).limits.groups
        owned = Query(user.memberships(), where=(Filter("role", "==", "owner"),), limit=limit + 1)
        if len(transaction.query(owned)) >= limit:
            raise TooManyGroups(says)
        return limit

    def _owned(self, transaction: Transaction, place: Scope, uid: str) -> Document:
        """Return the group's document, if ``uid`` is an owner."""
        document, member = transaction.get(place.root), transaction.get(place.group_member(uid))
        if document is None:
            raise NotFound
        _check_owner(member)
        return document

    def _check_room(self, document: Document) -> None:
        if document.data["members"] >= self._entitlements.of(document).limits.group_members:
            raise TooManyMembers


def _passed(user: Scope, now: datetime) -> Set:
    """Return the write that changes the gate, on which everything that gives the user a group to own depends."""
    return Set(user.groups_gate(), {"changed_at": now})


def forget_member(store: ScopedStore, user: Scope, group: str, now: datetime) -> bool:
    """End the membership of a user who is being erased. If they are the last owner, another member becomes one.

    Returns:
        whether the group has members left. If it has none, nothing is changed: the group is to be erased.
    """
    place, uid = user.of_group(group), str(user.uid)

    def work(transaction: Transaction) -> bool:
        document, member = transaction.get(place.root), transaction.get(place.group_member(uid))
        if document is None or member is None:
            return True
        if document.data["members"] == 1:
            return False
        if member.data["role"] != "owner" or document.data["owners"] > 1:
            transaction.write(Update(place.root, _counts(document, str(member.data["role"]), None)))
            transaction.write(*_leaving(place, uid))
            return True
        heir = _heir(transaction, place)
        facts = {"before": {"group": group, "role": heir.data["role"]}, "after": {"group": group, "role": "owner"}}
        members = {"members": document.data["members"] - 1}
        transaction.write(Update(place.root, {**members, **_withdrawn(document)}))
        transaction.write(*_leaving(place, uid))
        transaction.write(*_member_writes(place, heir.id, "owner", str(heir.data["name"]), now, heir))
        transaction.write(*audit_writes(place, "role.changed", OPERATOR, now, whom=heir.id, **facts))
        return True

    return store.transaction(work)


def guard_of(place: Scope, uid: str, *, writes: bool = False) -> Guard:
    """Return the guard of a group's data for one request of a user.

    Args:
        writes: whether the request is to write, so that its first read already checks that the user may.
    """
    return Guard(place.group_member(uid), place.erasure(), _check_member, writes=writes)


def check_member(store: ScopedStore, place: Scope, uid: str, *, writes: bool = False) -> None:
    """Check that a user is a member of a group.

    Args:
        writes: whether they are about to write.

    Raises:
        NotFound: they are not, or there is no such group.
        Forbidden: they are a viewer and about to write.
    """
    guard_of(place, uid, writes=writes).read(store, [], [])


def check_owner(store: ScopedStore, place: Scope, uid: str) -> None:
    """Check that a user is an owner of a group.

    Raises:
        NotFound: they are no member, or there is no such group.
        Forbidden: they are no owner.
    """
    _check_owner(Guard.member_of(store.get_many(guard_of(place, uid).paths)))


def _check_owner(member: Document | None) -> None:
    if member is None:
        raise NotFound
    if member.data["role"] != "owner":
        raise Forbidden("Only an owner of this group may do this.")


def _check_member(member: Document | None, writes: bool) -> None:
    if member is None:
        raise NotFound
    if writes and member.data["role"] == "viewer":
        raise Forbidden("Viewers of this group do not write.")


def owner_of(store: ScopedStore, place: Scope) -> Document | None:
    """Return the membership of one of a group's owners; None if there is no such group any more."""
    found = store.query(Query(place.group_members(), where=(Filter("role", "==", "owner"),), limit=1))
    return found[0] if found else None


def forget_group(store: ScopedStore, place: Scope) -> None:
    """Remove a group that is being erased from the lists of its members."""
    uids = store.ids(place.group_members())
    while page := list(islice(uids, _PAGE)):
        store.commit([Delete(place.of(uid).membership(str(place.group))) for uid in page])


def _member_writes(
    place: Scope, uid: str, role: str, called: str, now: datetime, before: Document | None = None
) -> list[Write]:
    """Return the writes that store a membership, and its copy below the user."""
    joined_at = now if before is None else before.data["joined_at"]
    own = {"role": role, "joined_at": joined_at}
    name = called or ("" if before is None else str(before.data["name"]))
    entry = place.of(uid).membership(str(place.group))
    return [Set(place.group_member(uid), {"uid": uid, "name": name, **own}), Set(entry, own)]


def _leaving(place: Scope, uid: str) -> list[Write]:
    # The copy stays without role and time, so that an erasure finds what the user wrote in the group.
    left = {"role": DELETE_FIELD, "joined_at": DELETE_FIELD}
    return [Delete(place.group_member(uid)), Update(place.of(uid).membership(str(place.group)), left)]


def _counts(group: Document, before: str | None, after: str | None) -> dict[str, int]:
    """Return a group's counts after a member's role changes. None is the role of no member."""
    members = group.data["members"] + (before is None) - (after is None)
    owners = group.data["owners"] + (after == "owner") - (before == "owner")
    if owners < 1:
        raise LastOwner
    return {"members": members, "owners": owners}


def _withdrawn(group: Document) -> dict[str, int]:
    """Return the change of a group by which no invitation from before holds: each is of a round."""
    return {"invites": group.data["invites"] + 1}


def _heir(transaction: Transaction, place: Scope) -> Document:
    """Return the member who becomes the owner after the last one: an editor, or a viewer if there is no editor."""
    for role in ("editor", "viewer"):
        found = transaction.query(Query(place.group_members(), where=(Filter("role", "==", role),), limit=1))
        if found:
            return found[0]
    raise NotFound(reason=f"{place.root} counts more members than it has")


def _offer_by_email(group: Document, caller: Caller) -> str:
    domains = tuple(group.data["domains"])
    policy = Policy(join="domain" if domains else "invite", domains=domains)
    policy.check(caller.email, verified=caller.email_verified, what="group")
    return str(group.data["domain_role"])


def _higher(held: str | None, offered: str) -> str:
    return offered if held is None else max(held, offered, key=ROLES.index)


def _found(document: Document | None) -> Document:
    if document is None:
        raise NotFound("That user is no member of this group.")
    return document


def _user_id(uid: str) -> str:
    if check_uid(uid).startswith(GROUP):
        raise InvalidId("That user id is not valid.")
    return uid


def _told(place: Scope, what: str, by: str, now: datetime) -> list[Write]:
    return audit_writes(place, what, by, now, after={"group": place.group})


def _view(place: Scope, data: Any, role: str) -> Group:
    rest = {name: data[name] for name in ("name", "members", "domain_role", "created_at")}
    return Group(id=str(place.group), role=role, domains=tuple(data["domains"]), **rest)


def _member(document: Document, role: str | None = None) -> Member:
    data = document.data
    return Member(document.id, role or str(data["role"]), str(data["name"]), data["joined_at"])


def _next_cursor(query: Query, found: Sequence[Document], limit: int) -> str | None:
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    return cursor_of(query, [last.data["joined_at"], last.id])
