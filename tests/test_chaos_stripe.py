"""The short form of ``make chaos-stripe``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from chaos_stripe import chaos, meters, start
from firelaunch.store.base import DocumentStore
from firelaunch.testing.emulator import Emulator


def test_whatever_order_events_come_in_and_whatever_is_lost_plans_end_as_stripe_has_them(
    firestore_emulator: Emulator, firestore_project: str, emulator_store: DocumentStore, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        world = start(emulator_store, firestore_emulator, firestore_project, tmp_path, stack)
        figures = chaos(world, 100, 8, 3, lambda _: lambda _done, _of: None, lost=0.4)
    assert (figures["differences"], figures["differences_after_reconciliation"]) == (0, 0)
    for part in (figures["shuffled"], figures["lossy"]):
        outcomes, arrived = part["outcomes"], 100 - part["lost"]
        unsure = outcomes.get("unanswered", 0) + outcomes.get("failed", 0)
        assert arrived - unsure <= outcomes["applied"] <= arrived
        assert outcomes["applied"] + outcomes["duplicate"] == part["deliveries"]
    assert figures["reconciliation"]["mended"] == figures["reconciliation"]["differences"] > 0
    assert figures["refused"] == {"forged signature": 400, "old timestamp": 400, "wrong app": 403}


def test_what_stripes_meter_counts_is_what_the_ledger_has_though_calls_are_lost(
    emulator_store: DocumentStore, tmp_path: Path
) -> None:
    figures = meters(tmp_path, emulator_store, 40, 4, 3, 0.3, lambda _done, _of: None)
    assert (figures["meter_difference"], figures["meter_events"]) == (0, 40)
    assert figures["metered_micro_usd"] > 0
    assert figures["meter_calls"]["request"] > 0 < figures["meter_calls"]["answer"]
    assert figures["reports"] == {"succeeded": 40}
