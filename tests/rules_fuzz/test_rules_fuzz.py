"""Our parser takes what the compiler takes, and our formulas decide as the emulator. ``make rules-fuzz`` asks more."""

from __future__ import annotations

from firelaunch.testing.emulator import Emulator

from .compare import compare
from .decisions import decide


def test_the_parser_and_the_compiler_accept_the_same_texts(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    comparison = compare(firestore_emulator, firestore_project, 200)
    assert comparison.disagreements == []
    # Where nearly nothing compiles, agreement says little.
    assert comparison.counts["generated_accepted"] > 15
    assert comparison.counts["mutated_accepted"] > 15


def test_formulas_and_the_emulator_decide_alike_and_proofs_hold(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    found = decide(firestore_emulator, firestore_project, 320)
    assert found.disagreements == []
    # A formula that leaves both decisions open agrees with anything.
    assert found.counts["told"] > 0.5 * found.counts["requests"]
