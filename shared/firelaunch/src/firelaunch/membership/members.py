"""Join and leave apps, and change roles. No other code changes the claims of an account.

The claims in the directory are the truth: no app's service can write them, whatever it can write to the database.
``apps/{app}/members/{uid}`` is a copy for reading. If writing the copy fails, repeating the call writes it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..errors import Forbidden, NotFound
from ..scope import Scope, check_app_id, check_uid
from ..store.audit import audit_writes
from ..store.base import Delete, DocumentStore, Set, Write
from .claims import check_role, encode, roles, with_role
from .directory import Directory, DirectoryUser
from .invites import Invitation, Invites
from .lock import Locks
from .policy import Policy
from .removals import Removals

__all__ = ["LOCKS", "Membership", "Requester"]

log = logging.getLogger(__name__)

LOCKS = "membership_locks"
"""The collection of the locks. It is outside all apps, and no rule opens it."""


@dataclass(frozen=True, slots=True)
class Requester:
    """The caller, by a verified token. ``issued_at`` is the time of the token, in seconds since 1970."""

    uid: str
    tenant: str | None
    issued_at: float


class Membership:
    """The memberships in all apps of a Firebase project.

    Args:
        database: returns the database with an app's documents, by the app's id.
        shared: the project's own database, which has the locks.
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

    def join(self, requester: Requester, app_id: str, invite: str | None = None) -> str:
        """Make ``requester`` a member, by the app's policy or by an invitation. Nothing changes for a member.

        With an invitation, a member gets its role if that is higher than theirs. Nobody gets a lower role.

        Returns:
            the role that the requester now has.

        Raises:
            Removed: an admin removed the requester, and nobody has readmitted them since.
            Forbidden: the policy, the invitation or the account does not allow the join.
            NotFound: there is no such app.
            TooManyApps: the account's claims are full.
        """
        policy, invites = self._policy(app_id), self._invites(app_id)
        with self._locks.hold(_lock_of(requester.uid, requester.tenant)) as lease:
            account = self._account(requester, policy)
            self._removals(app_id).check(account.uid)
            held = roles(account.claims).get(app_id)
            role = self._offer(policy, account, held) if invite is None else policy.better(held, invites.role(invite))
            if role != held:
                # Compute the claims before the code is used, so that a full account does not use the code up.
                claims = with_role(account.claims, app_id, role)
                if invite is not None:
                    invites.take(invite, requester.uid)
                lease.check()
                self._directory.set_claims(account.uid, account.tenant, encode(claims))
                log.info("membership: joined %s as %s (before: %s)", app_id, role, held or "none")
            self._record(app_id, account.uid, role, requester.uid, joined=held is None)
            if invite is not None:
                invites.done(invite, requester.uid)
        return role

    def leave(self, requester: Requester, app_id: str) -> None:
        """End the requester's membership, if there is one. Their data stays.

        Raises:
            Forbidden: the account is disabled, or its token revoked.
        """
        check_app_id(app_id)
        self._change(requester.uid, requester.tenant, app_id, None, requester.uid, requester=requester)

    def set_role(self, admin: Requester, app_id: str, uid: str, role: str) -> None:
        """Give a member of the app another role.

        Raises:
            BadRequest: ``role`` has an invalid form.
            Forbidden: ``admin`` is not an admin of this app at the moment.
            NotFound: ``uid`` is no member of the app.
        """
        self._check_admin(admin, app_id)
        self._change(check_uid(uid), admin.tenant, app_id, check_role(role), admin.uid)

    def remove(self, admin: Requester, app_id: str, uid: str) -> None:
        """End another user's membership, and keep them out until :meth:`readmit`.

        A user who is no member at the moment is kept out as well: they may just have left, or be about to join. An
        admin who removes themselves only leaves, and may come back.

        Raises:
            Forbidden: as in :meth:`set_role`.
            NotFound: there is no account with that ``uid``.
        """
        self._check_admin(admin, app_id)
        self._change(check_uid(uid), admin.tenant, app_id, None, admin.uid, remove=uid != admin.uid)

    def readmit(self, admin: Requester, app_id: str, uid: str) -> None:
        """Let a removed user join again. Their role does not come back. Nothing happens if they were not removed.

        Raises:
            Forbidden: as in :meth:`set_role`.
        """
        self._check_admin(admin, app_id)
        with self._locks.hold(_lock_of(check_uid(uid), admin.tenant)):
            if self._removals(app_id).lift(uid, admin.uid):
                log.info("membership: a removal from %s was lifted", app_id)

    def invite(self, admin: Requester, app_id: str, role: str, *, uses: int, valid_for: timedelta) -> Invitation:
        """Create an invitation to the app.

        Raises:
            BadRequest: ``role`` has an invalid form.
            Forbidden: as in :meth:`set_role`.
        """
        self._check_admin(admin, app_id)
        return self._invites(app_id).create(check_role(role), uses=uses, valid_for=valid_for, by=admin.uid)

    def _change(
        self,
        uid: str,
        tenant: str | None,
        app_id: str,
        role: str | None,
        by: str,
        *,
        requester: Requester | None = None,
        remove: bool = False,
    ) -> None:
        with self._locks.hold(_lock_of(uid, tenant)) as lease:
            account = self._directory.find(uid, tenant)
            if requester is not None:
                account = _checked(account, requester)
            held = roles(account.claims).get(app_id) if account is not None else None
            if account is None or (role is not None and (held is None or self._removals(app_id).hold(uid))):
                raise NotFound("That user is no member of this app.")
            if remove:
                # Store the removal before the role goes. If the call breaks off in between, they cannot rejoin.
                self._removals(app_id).add(uid, by, held)
            if held != role:
                claims = with_role(account.claims, app_id, role)
                lease.check()
                self._directory.set_claims(uid, tenant, encode(claims))
                log.info("membership: %s in %s (before: %s)", role or "none", app_id, held)
            self._record(app_id, uid, role, by, joined=False)

    def _record(self, app_id: str, uid: str, role: str | None, by: str, *, joined: bool) -> None:
        path, store, now = Scope(app_id, uid).member(), self._database(app_id), self._clock()
        told = self._told(store, Scope(app_id, uid), role, by, now)
        if role is None:
            store.commit([Delete(path), *told])
            return
        fields: dict[str, Any] = {"role": role, "updated_at": now}
        store.commit([Set(path, {**fields, "joined": now} if joined else fields, merge=True), *told])

    @staticmethod
    def _told(store: DocumentStore, user: Scope, role: str | None, by: str, now: datetime) -> list[Write]:
        """Return the entry of the audit log. Who joins as a plain member, or leaves, does so for themselves."""
        copy = store.get(user.member())
        before = None if copy is None else copy.data.get("role")
        plain = {"member", None}
        if before == role or (by == user.uid and before in plain and role in plain):
            return []
        facts = {"before": {"role": before}, "after": {"role": role}}
        return audit_writes(user, "role.changed", by, now, whom=user.uid, **facts)

    def _check_admin(self, requester: Requester, app_id: str) -> None:
        account = self._account(requester, self._policy(app_id))
        if roles(account.claims).get(app_id) != "admin":
            raise Forbidden("Only an admin of this app may do this.", reason=f"uid {requester.uid} of {app_id}")

    def _account(self, requester: Requester, policy: Policy) -> DirectoryUser:
        if requester.tenant != policy.tenant:
            raise Forbidden("This app's users sign in elsewhere.", reason=f"a token of tenant {requester.tenant!r}")
        return _checked(self._directory.find(requester.uid, requester.tenant), requester)

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


def _checked(account: DirectoryUser | None, requester: Requester) -> DirectoryUser:
    if account is None or account.disabled or requester.issued_at < account.valid_since:
        raise Forbidden("This account cannot be used; sign in again.", reason=f"uid {requester.uid}")
    return account


def _lock_of(uid: str, tenant: str | None) -> str:
    # Users of two tenants may have the same uid. A tenant's name has no colon.
    return f"{tenant or ''}:{uid}"
