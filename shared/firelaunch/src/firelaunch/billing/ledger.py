"""One app's copy of what Stripe says of its users' subscriptions, in the users' own documents.

Events come in any order, more than once and at once, and Stripe numbers neither them nor the states that they tell of.
So an event is taken as word that something changed, and what it changed to is asked of Stripe. That alone would leave
a race: an answer that was had first may be stored last. Therefore the user's document is read before Stripe is asked,
and written only if nobody wrote it since. Of two writes the later one was then also asked for later, so that the last
write holds Stripe's newest answer; and each event is applied by a write whose answer is younger than the event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ..scope import Scope
from ..store.base import DELETE_FIELD, SERVER_TIME, Create, Document, DocumentStore, Filter, Increment, Query, Update
from .base import SUBSCRIPTION_ID, Owner, Payments, Subscription
from .entitlements import subscriptions_of

__all__ = ["Ledger"]

_GIVE_UP_SECONDS = 15.0
_IN_THE_WAY = (AlreadyExists, NotFound, PreconditionFailed, Contention)
_PAGE = 100


class Ledger:
    """Keeps the users of one app up to date.

    Args:
        store: the app's own.
        app: the app's scope.
    """

    def __init__(self, store: DocumentStore, payments: Payments, app: Scope) -> None:
        self._store = store
        self._payments = payments
        self.app = app

    def follow(self, user: Scope, subscription_id: str, receipt: Create | None = None) -> bool:
        """Have ``user``'s document say of a subscription what Stripe says now.

        Args:
            receipt: a document to be made by the same commit. Where it is there already nothing is done.

        Returns:
            whether this call did it; False where the receipt was there.

        Raises:
            Contention: other writers were in the way each time.
            BillingError: Stripe cannot be asked.
            ValueError: ``subscription_id`` is none.
        """
        if not SUBSCRIPTION_ID.fullmatch(subscription_id):
            raise ValueError("no id of a subscription")
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            found, *seen = self._store.get_many([user.root, *([receipt.path] if receipt else [])])
            if any(seen):
                return False
            truth = self._payments.subscription(subscription_id)
            if truth is not None and (truth.ended or truth.owner != Owner(user.app_id, user.uid)):
                truth = None
            try:
                self._store.commit([_change(user, found, subscription_id, truth), *([receipt] if receipt else [])])
            except _IN_THE_WAY:
                if time.monotonic() > give_up:
                    raise Contention(retry_after=5) from None
                time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
            else:
                return True

    def keep(self, receipt: Create) -> bool:
        """Store a receipt by itself; False where it was there already."""
        try:
            self._store.commit([receipt])
        except AlreadyExists:
            return False
        return True

    def entries(self, uids: Sequence[str]) -> list[Mapping[str, Mapping[str, Any]]]:
        """What the documents of these users say of subscriptions, by subscription."""
        found = self._store.get_many([self.app.of(uid).root for uid in uids])
        return [{} if document is None else subscriptions_of(document.data) for document in found]

    def subscribers(self, after: str | None) -> list[tuple[str, Mapping[str, Mapping[str, Any]]]]:
        """The next users after the id ``after`` who have subscriptions that have not ended, and what is said of those.

        Returns:
            100 at most; none at the end.
        """
        page = Query(
            self.app.users(),
            where=(Filter("billing.subscribed", "==", True),),
            limit=_PAGE,
            after=None if after is None else (after,),
        )
        return [(document.id, subscriptions_of(document.data)) for document in self._store.query(page)]


def _change(user: Scope, found: Document | None, subscription_id: str, truth: Subscription | None) -> Create | Update:
    others = dict(subscriptions_of(found.data)) if found is not None else {}
    others.pop(subscription_id, None)
    entry = None if truth is None else truth.entry()
    subscribed = bool(others) or entry is not None
    if found is None:
        own = {} if entry is None else {subscription_id: entry}
        billing = {"subscriptions": own, "subscribed": subscribed, "revision": 1, "synced_at": SERVER_TIME}
        return Create(user.root, {"billing": billing})
    return Update(
        user.root,
        {
            f"billing.subscriptions.{subscription_id}": DELETE_FIELD if entry is None else entry,
            "billing.subscribed": subscribed,
            # A write that changes nothing would leave the document's time, and a writer who asked before us would win.
            "billing.revision": Increment(1),
            "billing.synced_at": SERVER_TIME,
        },
        if_updated_at=found.update_time,
    )
