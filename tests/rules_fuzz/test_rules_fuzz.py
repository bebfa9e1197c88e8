"""Our parser takes what the rules compiler takes. ``make rules-fuzz`` asks about more texts."""

from __future__ import annotations

from firelaunch.testing.emulator import Emulator

from .compare import compare


def test_the_parser_and_the_compiler_accept_the_same_texts(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    comparison = compare(firestore_emulator, firestore_project, 100)
    assert comparison.disagreements == []
    # Where nearly nothing compiles, agreement says little.
    assert comparison.counts["generated_accepted"] > 15
    assert comparison.counts["mutated_accepted"] > 15
