"""Credit is held by requests until they settle or expire, and by nobody for longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from firelaunch.billing.balance import Balance
from firelaunch.scope import Scope
from firelaunch.store.base import DELETE_FIELD, Document
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADA = Scope("demo", "ada")

_Held = dict[str, tuple[int, int]]
held = st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 50), st.integers(-2, 2)), max_size=5)


def balance(micro_usd: int, owed: int, entries: _Held) -> Balance:
    """``entries`` has the amount of each request, and the seconds from now at which it expires."""
    reservations: dict[str, Any] = {
        name: {"micro_usd": amount, "expires_at": NOW + timedelta(seconds=seconds)}
        for name, (amount, seconds) in entries.items()
    }
    data = {"balance": {"micro_usd": micro_usd, "owed_micro_usd": owed, "reservations": reservations}}
    return Balance.of(Document(ADA.root, data, NOW, NOW))


@given(st.integers(0, 200), st.integers(0, 60), held, st.sampled_from("abcdex"))
def test_a_request_may_hold_what_is_neither_owed_nor_held_by_another_that_has_not_expired(
    micro_usd: int, owed: int, entries: _Held, request: str
) -> None:
    credit = balance(micro_usd, owed, entries)
    others = sum(amount for name, (amount, seconds) in entries.items() if seconds > 0 and name != request)
    assert credit.held(NOW, besides=request) == others
    assert credit.available(NOW, besides=request) == max(0, micro_usd - owed - others)
    assert credit.held(NOW) == sum(amount for amount, seconds in entries.values() if seconds > 0)


@given(held, st.sampled_from("abcdex"))
def test_holding_lets_go_of_each_other_request_that_expired_and_of_no_one_else(entries: _Held, request: str) -> None:
    write = balance(100, 0, entries).hold(ADA, request, 7, NOW, NOW + timedelta(seconds=60))
    gone = {name for name, (_, seconds) in entries.items() if seconds <= 0 and name != request}
    assert write.data == {
        **{f"balance.reservations.{name}": DELETE_FIELD for name in gone},
        f"balance.reservations.{request}": {"micro_usd": 7, "expires_at": NOW + timedelta(seconds=60)},
    }
    assert (write.path, write.if_updated_at) == (ADA.root, NOW)


@given(st.integers(0, 200), st.integers(0, 60), held, st.integers(-300, 300))
def test_a_change_keeps_what_is_held_and_loses_no_micro_dollar(
    micro_usd: int, owed: int, entries: _Held, change: int
) -> None:
    credit = balance(micro_usd, owed, entries)
    data = credit.changed(ADA, change, NOW).data
    left, owes = data["balance.micro_usd"], data["balance.owed_micro_usd"]
    assert left - owes == micro_usd - owed + change
    assert left >= min(micro_usd, credit.held(NOW))
    assert min(left, owes) >= 0
    assert owes == 0 or left == min(micro_usd, credit.held(NOW))
