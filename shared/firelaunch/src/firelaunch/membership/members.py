"""Joining, leaving and roles. Nothing else changes the claims of an account.

The claims in the directory are the truth: no app's service can write them, whatever it can write to the database.
``apps/{app}/members/{uid}`` is a copy for reading, and is written again by the same call made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..errors import Forbidden, NotFound
from ..scope import Scope, check_app_id, check_uid
from ..store.base import Delete, DocumentStore, Set
from .claims import check_role, encode, roles, with_role
from .directory import Directory, DirectoryUser
from .invites import Invitation, Invites
from .lock import Locks
from .policy import Policy
from .removals import Removals

__all__ = ["LOCKS", "Membership", "Requester"]

log = logging.getLogger(__name__)

LOCKS = "membership_locks"
"""The collection of the locks: outside all apps, and named by no rule."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who calls, by a verified token: of which tenant, and when (seconds since 1970) the token was issued."""

    uid: str
    tenant: str | None
    issued_at: float


class Membership:
    """The door to all apps of a Firebase project.

    Args:
        database: the database that an app's documents lie in, by the app's id.
        shared: the project's own database, where the locks are.
    """

    def __init__(
        self,
        directory: Directory,
        database: Callable[[str], DocumentStore],
        shared: DocumentStore,
        clock: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._database = database
        self._locks = Locks(shared, LOCKS, clock)
        self._clock = clock

    def join(self, visitor: Requester, app_id: str, invite: str | None = None) -> str:
        """Make ``visitor`` a member, by the app's policy or by an invitation; nothing changes for one who is.

        With an invitation, one who is a member gets its role, if it is more than theirs. Nobody gets a lesser one.

        Returns:
            the role that the visitor now has.

        Raises:
            Removed: an admin removed them, and nobody has readmitted them since.
            Forbidden: the policy, the invitation or the account does not allow it.
            NotFound: there is no such app.
            TooManyApps: the account's claims are full.
        """
        policy, invites = self._policy(app_id), self._invites(app_id)
        with self._locks.hold(_lock_of(visitor.uid, visitor.tenant)) as lease:
            account = self._account(visitor, policy)
            self._removals(app_id).check(account.uid)
            held = roles(account.claims).get(app_id)
            role = self._offer(policy, account, held) if invite is None else policy.better(held, invites.role(invite))
            if role != held:
                # Before the code is used, so that an account which is full does not use it up.
                claims = with_role(account.claims, app_id, role)
                if invite is not None:
                    invites.take(invite, visitor.uid)
                lease.check()
                self._directory.set_claims(account.uid, account.tenant, encode(claims))
                log.info("membership: joined %s as %s (before: %s)", app_id, role, held or "none")
            self._record(app_id, account.uid, role, joined=held is None)
            if invite is not None:
                invites.done(invite, visitor.uid)
        return role

    def leave(self, visitor: Requester, app_id: str) -> None:
        """End the visitor's membership; nothing happens where there is none. What they wrote stays.

        Raises:
            Forbidden: the account is disabled, or its token revoked.
        """
        check_app_id(app_id)
        self._change(visitor.uid, visitor.tenant, app_id, None, visitor=visitor)

    def set_role(self, admin: Requester, app_id: str, uid: str, role: str) -> None:
        """Give a member of the app another role.

        Raises:
            BadRequest: no role by its form.
            Forbidden: ``admin`` is, at this moment, no admin of this app.
            NotFound: ``uid`` is no member of it.
        """
        self._check_admin(admin, app_id)
        self._change(check_uid(uid), admin.tenant, app_id, check_role(role))

    def remove(self, admin: Requester, app_id: str, uid: str) -> None:
        """End another's membership, and keep them out until :meth:`readmit`.

        One who is no member at the moment is kept out as well: they may just have left, or be about to join. An admin
        who removes themselves leaves, and may come back.

        Raises:
            Forbidden: as :meth:`set_role`.
            NotFound: there is no account of that ``uid``.
        """
        self._check_admin(admin, app_id)
        self._change(check_uid(uid), admin.tenant, app_id, None, remove=uid != admin.uid)

    def readmit(self, admin: Requester, app_id: str, uid: str) -> None:
        """Let one who was removed join again; nothing happens where nobody was. Their role does not come back.

        Raises:
            Forbidden: as :meth:`set_role`.
        """
        self._check_admin(admin, app_id)
        with self._locks.hold(_lock_of(check_uid(uid), admin.tenant)):
            if self._removals(app_id).lift(uid):
                log.info("membership: a removal from %s was lifted", app_id)

    def invite(self, admin: Requester, app_id: str, role: str, *, uses: int, valid_for: timedelta) -> Invitation:
        """An invitation to the app.

        Raises:
            BadRequest: no role by its form.
            Forbidden: as :meth:`set_role`.
        """
        self._check_admin(admin, app_id)
        return self._invites(app_id).create(check_role(role), uses=uses, valid_for=valid_for, by=admin.uid)

    def _change(
        self,
        uid: str,
        tenant: str | None,
        app_id: str,
        role: str | None,
        *,
        visitor: Requester | None = None,
        remove: bool = False,
    ) -> None:
        with self._locks.hold(_lock_of(uid, tenant)) as lease:
            account = self._directory.find(uid, tenant)
            if visitor is not None:
                account = _checked(account, visitor)
            held = roles(account.claims).get(app_id) if account is not None else None
            if account is None or (role is not None and (held is None or self._removals(app_id).hold(uid))):
                raise NotFound("That user is no member of this app.")
            if remove:
                # Before their role goes, so that a call that ends half-way leaves nobody who can come back.
                self._removals(app_id).add(uid)
            if held != role:
                claims = with_role(account.claims, app_id, role)
                lease.check()
                self._directory.set_claims(uid, tenant, encode(claims))
                log.info("membership: %s in %s (before: %s)", role or "none", app_id, held)
            self._record(app_id, uid, role, joined=False)

    def _record(self, app_id: str, uid: str, role: str | None, *, joined: bool) -> None:
        path, store, now = Scope(app_id, uid).member(), self._database(app_id), self._clock()
        if role is None:
            store.commit([Delete(path)])
            return
        fields: dict[str, Any] = {"role": role, "updated_at": now}
        store.commit([Set(path, {**fields, "joined": now} if joined else fields, merge=True)])

    def _check_admin(self, visitor: Requester, app_id: str) -> None:
        account = self._account(visitor, self._policy(app_id))
        if roles(account.claims).get(app_id) != "admin":
            raise Forbidden("Only an admin of this app may do this.", reason=f"uid {visitor.uid} of {app_id}")

    def _account(self, visitor: Requester, policy: Policy) -> DirectoryUser:
        if visitor.tenant != policy.tenant:
            raise Forbidden("This app's users sign in elsewhere.", reason=f"a token of tenant {visitor.tenant!r}")
        return _checked(self._directory.find(visitor.uid, visitor.tenant), visitor)

    def _policy(self, app_id: str) -> Policy:
        document = self._database(check_app_id(app_id)).get(Scope(app_id).root)
        if document is None:
            raise NotFound("There is no such app here.", reason=f"{app_id}: 'firelaunch publish' makes its document")
        return Policy.of(document.data)

    @staticmethod
    def _offer(policy: Policy, account: DirectoryUser, held: str | None) -> str:
        if held is None:
            policy.check(account.email, verified=account.email_verified)
        return held or "member"

    def _removals(self, app_id: str) -> Removals:
        return Removals(self._database(app_id), app_id, self._clock)

    def _invites(self, app_id: str) -> Invites:
        return Invites(self._database(app_id), app_id, self._clock)


def _checked(account: DirectoryUser | None, visitor: Requester) -> DirectoryUser:
    if account is None or account.disabled or visitor.issued_at < account.valid_since:
        raise Forbidden("This account cannot be used; sign in again.", reason=f"uid {visitor.uid}")
    return account


def _lock_of(uid: str, tenant: str | None) -> str:
    # Users of two tenants may have the same uid; a tenant's name holds no colon.
    return f"{tenant or ''}:{uid}"
