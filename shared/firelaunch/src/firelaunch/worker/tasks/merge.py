"""Merge a guest into an account: what the guest has becomes the account's, once, and the guest is erased.

The first commit closes the guest for good (:data:`~firelaunch.store.fence.CLOSED`), says under a hash which account
takes it all, and stores the account's job. So of two accounts that ask for the same guest one gets it. Nobody can make
data of the guest any more; turns that are running settle, because the job waits until nothing of the guest's money is
reserved. :mod:`.user_move` moves the data; that module is imported with the first such job.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from ...errors import AlreadyExists, BadRequest, Conflict, Contention, NotFound, PreconditionFailed, RateLimited
from ...identity import Caller
from ...jobs import Job
from ...membership.removals import Removed
from ...scope import Scope
from ...services.bundle import Services
from ...store.base import Create, Document, Increment, Set, Update, Verify, Write
from ...store.fence import CLOSED
from .. import Handlers, JobDone, JobRun
from .erase import Erasure
from .user_data import MERGE, Merge

__all__ = ["merge_handlers", "start_merge"]

log = logging.getLogger(__name__)

_CLOSED_DAYS = 30
"""Days for which a guest stays closed. A guest's token lasts an hour, and a client may renew it as long as it likes."""

_MOST_A_DAY = 10
"""Guests that one account takes in a day. Each may bring as many documents as the guests' plan allows."""

_TRIES = 8
_INTO = "into"


def start_merge(services: Services, account: Caller, guest: Caller) -> Job:
    """Have a job move all of a guest's data to an account, and return it. A repetition returns the same job.

    Args:
        account: a member, by a verified token.
        guest: the guest, by another verified token.

    Raises:
        BadRequest: the second token is no guest's, or is of the account itself.
        Removed: an admin removed the guest.
        Conflict: the guest was merged into another account, or has an account since the token was issued.
        RateLimited: the account has taken in too many guests today.
        Contention: others kept changing the guest.
        JobsUnavailable: jobs cannot be delivered here.
    """
    if not guest.guest or account.guest or guest.app_id != account.app_id:
        raise BadRequest("guest_token: this is no guest's token.")
    if guest.uid == account.uid:
        raise BadRequest("guest_token: this is the account itself. It keeps what it had as a guest.")
    for _ in range(_TRIES):
        try:
            return _started(services, account.scope, guest.scope)
        except (AlreadyExists, NotFound, PreconditionFailed):
            continue
    raise Contention(retry_after=1)


def _started(services: Services, account: Scope, guest: Scope) -> Job:
    day = account.usage(services.metering.today())
    paths = [guest.erasure(), guest.removal(str(guest.uid)), guest.root, guest.member(), day]
    erasure, removal, root, member, usage = services.store.get_many(paths)
    under_way = _job_under_way(services, account, erasure)
    if under_way is not None:
        return under_way
    if removal is not None:
        raise Removed(reason=f"guest {guest.uid} of {guest.app_id}")
    if member is not None or (root is not None and root.data.get("guest") is not True):
        raise Conflict("This guest has an account since: sign in to it.", reason=f"uid {guest.uid}")
    if usage is not None and usage.data.get("merges", 0) >= _MOST_A_DAY:
        raise RateLimited(f"An account takes in {_MOST_A_DAY} guests a day. Try again tomorrow.", retry_after=3600)
    prepared = services.jobs.prepare(account, MERGE, Merge(guest=str(guest.uid)))
    closed = {
        CLOSED: True,
        _INTO: _name_of(account),
        "job": prepared.job_id,
        "delete_at": services.clock() + timedelta(days=_CLOSED_DAYS),
    }
    writes: list[Write] = [
        Create(guest.erasure(), closed)
        if erasure is None
        else Update(guest.erasure(), closed, if_updated_at=erasure.update_time),
        Verify(guest.member(), None),
        Verify(guest.root, None if root is None else root.update_time),
        Set(day, {"merges": Increment(1)}, merge=True),
        prepared.write,
    ]
    services.store.commit(writes)
    if services.guests is not None:
        services.guests.forget(guest)
    services.jobs.send(prepared)
    return services.jobs.get(account, prepared.job_id)


def _job_under_way(services: Services, account: Scope, erasure: Document | None) -> Job | None:
    """Return the job that merges the guest, or has merged it; None if there is none, or if it was given up."""
    if erasure is None or not erasure.data.get(CLOSED):
        return None
    if erasure.data.get(_INTO) != _name_of(account):
        raise Conflict("This guest's data was moved to another account.")
    job = services.jobs.get(account, str(erasure.data["job"]))
    return None if job.state in {"dead", "cancelled"} else job


def _name_of(account: Scope) -> str:
    """Return a name for an account by which nobody finds it: the erasure's own, which is a hash."""
    return account.erasure().rpartition("/")[2]


def merge_handlers(services: Services, erasure: Erasure, more: Handlers | None = None) -> Handlers:
    """Return the handler of merges, together with ``more``.

    Args:
        services: the app's, since the data moves from one of its users to another.
        erasure: erases what is left of the guest.
    """
    handlers = Handlers(more)

    @handlers.on(MERGE)
    def merge(run: JobRun, payload: Merge) -> JobDone:
        from .user_move import UserMove

        guest = services.store.scope.of(payload.guest)
        closed = services.store.get(guest.erasure())
        if closed is None or closed.data.get("job") != run.id:
            return JobDone({"status": "gone"})
        moved: dict[str, Any] = UserMove(run, services, guest, run.scope).run()
        erasure.run(payload.guest)
        log.info("a guest of %s was merged: %s", guest.app_id, moved)
        return JobDone({"status": "merged", "moved": moved})

    return handlers
