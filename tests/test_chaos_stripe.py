"""The short form of ``make chaos-stripe``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from chaos_stripe import chaos, start
from firelaunch.store.base import DocumentStore
from firelaunch.testing.emulator import Emulator


def test_whatever_order_events_come_in_and_whatever_is_lost_plans_end_as_stripe_has_them(
    firestore_emulator: Emulator, firestore_project: str, emulator_store: DocumentStore, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        world = start(emulator_store, firestore_emulator, firestore_project, tmp_path, stack)
        figures = chaos(world, 150, 10, 1, lambda _: lambda _done, _of: None)
    assert (figures["differences"], figures["differences_after_reconciliation"]) == (0, 0)
    assert figures["shuffled"]["outcomes"]["applied"] == 150
    assert figures["shuffled"]["outcomes"]["duplicate"] == figures["shuffled"]["deliveries"] - 150
    assert figures["lossy"]["lost"] > 0
    assert figures["lossy"]["outcomes"]["applied"] == 150 - figures["lossy"]["lost"]
    assert figures["reconciliation"]["failed"] == 0
