"""Change a user's credit: by a payment, or by an admin's grant. Each has an entry of its own, and counts once.

An entry holds how much credit it has given. So whatever comes late, or more than once, changes the credit by what the
entry does not have yet. ``balance.micro_usd - balance.owed_micro_usd`` is always the sum of the entries less what was
spent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..scope import Scope
from ..store.audit import audit_writes
from ..store.base import Create, Document, Update, Write
from .balance import Balance
from .base import Payment

__all__ = ["grant_writes", "payment_writes"]


def payment_writes(
    user: Scope, document: Document | None, entry: Document | None, payment: Payment, now: datetime
) -> list[Write]:
    """Return the writes after which the credit has what ``payment`` is worth. There are none if it has that already.

    They carry the condition that neither document changed since it was read.

    Args:
        document: the user's document.
        entry: the entry of the payment.
    """
    fields: dict[str, Any] = {
        "kind": "bought",
        "bought_micro_usd": payment.credit_micro_usd,
        "credited_micro_usd": payment.worth,
        "amount": payment.amount,
        "currency": payment.currency,
        "paid": payment.paid,
        "refunded": payment.refunded,
        "disputed": payment.disputed,
    }
    before = 0 if entry is None else int(entry.data.get("credited_micro_usd", 0))
    if entry is not None and all(entry.data.get(name) == value for name, value in fields.items()):
        return []
    path = user.credit_entry(payment.id)
    fields["updated_at"] = now
    writes: list[Write] = [
        Create(path, {**fields, "created_at": now})
        if entry is None
        else Update(path, fields, if_updated_at=entry.update_time)
    ]
    if payment.worth != before:
        writes.append(Balance.of(document).changed(user, payment.worth - before, now))
    return writes


def grant_writes(
    user: Scope, document: Document | None, entry_id: str, micro_usd: int, by: str, now: datetime
) -> list[Write]:
    """Return the writes that add ``micro_usd`` to the credit, or take it back if it is below zero.

    Args:
        document: the user's document. The commit fails if it changed since it was read.
        entry_id: the id of the grant's entry. The commit fails with AlreadyExists if there is one.
        by: the admin's user id.
    """
    entry = {"kind": "granted", "credited_micro_usd": micro_usd, "by": by, "created_at": now, "updated_at": now}
    balance = Balance.of(document)
    return [
        Create(user.credit_entry(entry_id), entry),
        balance.changed(user, micro_usd, now),
        *audit_writes(
            user,
            "credit.granted",
            by,
            now,
            whom=user.uid,
            before={"micro_usd": balance.micro_usd, "owed_micro_usd": balance.owed},
            after={"given_micro_usd": micro_usd},
        ),
    ]
