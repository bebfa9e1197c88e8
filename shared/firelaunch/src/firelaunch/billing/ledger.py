"""Keep one app's copy of its users' subscriptions, and their credit, in the users' own documents.

Events come in any order, several times and in parallel, and Stripe numbers neither the events nor the states. So an
event only says that something changed, and Stripe is asked for the new state. That alone would leave a race: the answer
that came first might be stored last. Therefore the user's document is read before Stripe is asked, and written only if
nobody wrote it since. Of two writes, the later one then has the later answer, so the last write holds Stripe's newest
state. And each event is applied by a write whose answer is younger than the event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed
from ..scope import Scope
from ..store.audit import STRIPE, audit_writes
from ..store.base import (
    DELETE_FIELD,
    SERVER_TIME,
    Create,
    Document,
    DocumentStore,
    Filter,
    Increment,
    Query,
    Update,
    Write,
)
from .base import SUBSCRIPTION_ID, Owner, Payments, Subscription
from .credit import payment_writes
from .entitlements import subscriptions_of, trial_of

__all__ = ["Ledger", "apply_changes"]

_GIVE_UP_SECONDS = 15.0
_CONFLICTS = (AlreadyExists, NotFound, PreconditionFailed, Contention)
_PAGE = 100


class Ledger:
    """Keeps the users of one app up to date.

    Args:
        store: the app's store.
        app: the app's scope.
    """

    def __init__(
        self,
        store: DocumentStore,
        payments: Payments,
        app: Scope,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._payments = payments
        self._clock = clock
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

        def changes(document: Document | None) -> list[Write]:
            current = self._payments.subscription(subscription_id)
            if current is not None and (current.ended or current.owner != Owner(user.app_id, user.uid)):
                current = None
            return [
                _change(user, document, subscription_id, current),
                *_told(user, document, subscription_id, current, self._clock()),
            ]

        return apply_changes(self._store, [user.root], changes, receipt)

    def credit(self, user: Scope, payment_id: str, receipt: Create | None = None) -> bool:
        """Give ``user`` the credit that a payment is worth at the moment, or take back what it is not worth any more.

        Args:
            receipt: as for :meth:`follow`.

        Returns:
            whether this call looked at the payment; False if the receipt existed.

        Raises:
            Contention: other writers came first each time.
            BillingError: Stripe cannot be reached, or refuses.
        """

        def changes(document: Document | None, entry: Document | None) -> list[Write]:
            payment = self._payments.payment(payment_id)
            if payment is None or payment.owner != Owner(user.app_id, user.uid) or payment.credit_micro_usd <= 0:
                return []
            return payment_writes(user, document, entry, payment, self._clock())

        return apply_changes(self._store, [user.root, user.credit_entry(payment_id)], changes, receipt)

    def owner_of(self, payment_id: str) -> Owner:
        """Return the owner of a payment. Disputes and refunds don't name one themselves.

        Raises:
            BillingError: Stripe cannot be reached, or refuses.
        """
        payment = self._payments.payment(payment_id)
        return Owner(None, None) if payment is None else payment.owner

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


def apply_changes(
    store: DocumentStore,
    paths: Sequence[str],
    changes: Callable[..., Sequence[Write]],
    receipt: Create | None = None,
) -> bool:
    """Read documents and commit what ``changes`` makes of them, until nobody else changed them in between.

    Args:
        changes: gets the documents at ``paths`` and returns writes with the condition that they are still the same.
        receipt: a document to create in the same commit. If it exists already, nothing is done.

    Returns:
        False if the receipt existed.

    Raises:
        Contention: other writers came first for too long.
    """
    give_up = time.monotonic() + _GIVE_UP_SECONDS
    while True:
        # Read the documents before asking Stripe; the module's docstring explains why.
        found = store.get_many([*paths, *([receipt.path] if receipt else [])])
        if any(found[len(paths) :]):
            return False
        writes = [*changes(*found[: len(paths)]), *([receipt] if receipt else [])]
        try:
            if writes:
                store.commit(writes)
        except _CONFLICTS:
            if time.monotonic() > give_up:
                raise Contention(retry_after=5) from None
            time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
        else:
            return True


def _told(
    user: Scope, document: Document | None, subscription_id: str, current: Subscription | None, now: datetime
) -> list[Write]:
    """Return the entry of the audit log, if what the user pays for changed."""
    entry = {} if document is None else subscriptions_of(document.data).get(subscription_id, {})
    before = {name: entry[name] for name in ("status", "prices") if name in entry}
    after = {} if current is None else {"status": current.status, "prices": list(current.prices)}
    if before == after:
        return []
    facts = {"before": before or None, "after": {"subscription": subscription_id, **after}}
    return audit_writes(user, "subscription.changed", STRIPE, now, whom=user.uid, **facts)


def _change(
    user: Scope, document: Document | None, subscription_id: str, current: Subscription | None
) -> Create | Update:
    others = dict(subscriptions_of(document.data)) if document is not None else {}
    others.pop(subscription_id, None)
    entry = None if current is None else current.entry()
    subscribed = bool(others) or entry is not None
    begins_trial = current is not None and current.trial_end is not None and trial_of(document) is None
    if document is None:
        own = {} if entry is None else {subscription_id: entry}
        billing = {"subscriptions": own, "subscribed": subscribed, "revision": 1, "synced_at": SERVER_TIME}
        return Create(user.root, {"billing": billing | ({"trial": subscription_id} if begins_trial else {})})
    return Update(
        user.root,
        {
            **({"billing.trial": subscription_id} if begins_trial else {}),
            f"billing.subscriptions.{subscription_id}": DELETE_FIELD if entry is None else entry,
            "billing.subscribed": subscribed,
            # A write that changes nothing would keep the document's time. Then a writer with an older answer would win.
            "billing.revision": Increment(1),
            "billing.synced_at": SERVER_TIME,
        },
        if_updated_at=document.update_time,
    )
