"""Keep one app's copy of its users' subscriptions in the users' own documents.

Events come in any order, several times and in parallel, and Stripe numbers neither the events nor the states. So an
event only says that something changed, and Stripe is asked for the new state. That alone would leave a race: the answer
that came first might be stored last. Therefore the user's document is read before Stripe is asked, and written only if
nobody wrote it since. Of two writes, the later one then has the later answer, so the last write holds Stripe's newest
state. And each event is applied by a write whose answer is younger than the event.
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
_CONFLICTS = (AlreadyExists, NotFound, PreconditionFailed, Contention)
_PAGE = 100


class Ledger:
    """Keeps the users of one app up to date.

    Args:
        store: the app's store.
        app: the app's scope.
    """

    def __init__(self, store: DocumentStore, payments: Payments, app: Scope) -> None:
        self._store = store
        self._payments = payments
        self.app = app

    def follow(self, user: Scope, subscription_id: str, receipt: Create | None = None) -> bool:
        """Copy the current state of a subscription from Stripe into ``user``'s document.

        Args:
            receipt: a document to create in the same commit. If it exists already, nothing is done.

        Returns:
            whether this call copied the state; False if the receipt existed.

        Raises:
            Contention: other writers came first each time.
            BillingError: Stripe cannot be reached, or refuses.
            ValueError: ``subscription_id`` is no valid id.
        """
        if not SUBSCRIPTION_ID.fullmatch(subscription_id):
            raise ValueError("no id of a subscription")
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            # Read the document before asking Stripe; the module's docstring explains why.
            document, *receipts = self._store.get_many([user.root, *([receipt.path] if receipt else [])])
            if any(receipts):
                return False
            current = self._payments.subscription(subscription_id)
            if current is not None and (current.ended or current.owner != Owner(user.app_id, user.uid)):
                current = None
            change = _change(user, document, subscription_id, current)
            try:
                self._store.commit([change, *([receipt] if receipt else [])])
            except _CONFLICTS:
                if time.monotonic() > give_up:
                    raise Contention(retry_after=5) from None
                time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
            else:
                return True

    def keep(self, receipt: Create) -> bool:
        """Store a receipt alone. Return False if it existed already."""
        try:
            self._store.commit([receipt])
        except AlreadyExists:
            return False
        return True

    def entries(self, uids: Sequence[str]) -> list[Mapping[str, Mapping[str, Any]]]:
        """Return the subscriptions in these users' documents, by id, in the order of ``uids``."""
        documents = self._store.get_many([self.app.of(uid).root for uid in uids])
        return [{} if document is None else subscriptions_of(document.data) for document in documents]

    def subscribers(self, after: str | None) -> list[tuple[str, Mapping[str, Mapping[str, Any]]]]:
        """Return the next users after the id ``after`` who have running subscriptions, with those subscriptions.

        Returns:
            at most 100 users; an empty list at the end.
        """
        page = Query(
            self.app.users(),
            where=(Filter("billing.subscribed", "==", True),),
            limit=_PAGE,
            after=None if after is None else (after,),
        )
        return [(document.id, subscriptions_of(document.data)) for document in self._store.query(page)]


def _change(
    user: Scope, document: Document | None, subscription_id: str, current: Subscription | None
) -> Create | Update:
    others = dict(subscriptions_of(document.data)) if document is not None else {}
    others.pop(subscription_id, None)
    entry = None if current is None else current.entry()
    subscribed = bool(others) or entry is not None
    if document is None:
        own = {} if entry is None else {subscription_id: entry}
        billing = {"subscriptions": own, "subscribed": subscribed, "revision": 1, "synced_at": SERVER_TIME}
        return Create(user.root, {"billing": billing})
    return Update(
        user.root,
        {
            f"billing.subscriptions.{subscription_id}": DELETE_FIELD if entry is None else entry,
            "billing.subscribed": subscribed,
            # A write that changes nothing would keep the document's time. Then a writer with an older answer would win.
            "billing.revision": Increment(1),
            "billing.synced_at": SERVER_TIME,
        },
        if_updated_at=document.update_time,
    )
