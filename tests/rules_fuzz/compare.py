"""Tell where our parser and the compiler say different things of a text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rules_tester.parser import parse
from rules_tester.tokens import RulesSyntaxError

from .programs import PATTERNS, PROGRAMS, changed_files


@dataclass
class Comparison:
    """The texts that were compared, and those of which the two said different things."""

    counts: Counter[str] = field(default_factory=Counter)
    disagreements: list[dict[str, str]] = field(default_factory=list)


def disagreement(emulator: Emulator, project: str, source: str) -> tuple[bool, dict[str, str] | None]:
    """Return whether the compiler takes ``source``, and what each says if they differ."""
    try:
        parse(source)
        ours = "accepted"
    except RulesSyntaxError as error:
        ours = f"refused at {error.offset}: {error}"
    try:
        emulator.load_rules(project, source)
        theirs = "accepted"
    except RulesError as error:
        theirs = f"refused: {error}"
    except EmulatorUnavailable as error:
        # It answers 500 where it crashes, as on an expression of a thousand dots, and so says neither.
        if "500" not in str(error):
            raise
        theirs = ours
    differs = (ours == "accepted") != (theirs == "accepted")
    return theirs == "accepted", {"source": source, "ours": ours, "emulator": theirs} if differs else None


def compare(emulator: Emulator, project: str, each: int) -> Comparison:
    """Compare the two on ``each`` programs, as many changed files, and as many regular expressions."""
    comparison = Comparison()
    for kind, texts in {"generated": PROGRAMS, "mutated": changed_files(), "patterns": PATTERNS}.items():
        _compare(emulator, project, kind, texts, each, comparison)
    return comparison


def _compare(
    emulator: Emulator, project: str, kind: str, texts: st.SearchStrategy[str], each: int, comparison: Comparison
) -> None:
    seen: set[str] = set()

    @settings(
        max_examples=each,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(texts)
    def go(source: str) -> None:
        accepted, differs = disagreement(emulator, project, source)
        comparison.counts[kind] += 1
        comparison.counts[f"{kind}_accepted"] += accepted
        if differs and source not in seen:
            seen.add(source)
            comparison.disagreements.append(differs)

    go()
