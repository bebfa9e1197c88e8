"""Put mutants that no case could confuse into one set of rules, so that the emulator compiles fewer times.

Two mutants get along if no case of one could tell a difference that the other makes, and neither brings cases to a
statement that the other changes. So each is judged in a batch as it would be alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .mutants import Mutant
from .slices import Impact

__all__ = ["MutantBatch", "MutantTrial", "batches"]

_MOST = 24
"""Most mutants of a batch: enough to save most of the compiling, few enough to lose little when a run is stopped."""


@dataclass(frozen=True, slots=True)
class MutantTrial:
    """A mutant that is to be tried.

    Attributes:
        number: its place among all mutants.
        cases: the cases to try it with, as bits.
        impact: what it could make a difference for.
    """

    number: int
    mutant: Mutant
    cases: int
    impact: Impact


@dataclass(slots=True)
class MutantBatch:
    """Mutants that are loaded together, and the cases of all of them, as bits."""

    trials: list[MutantTrial] = field(default_factory=list)
    cases: int = 0
    units: set[int] = field(default_factory=set)
    """The beginnings of the allows and functions that change."""
    _could_tell: int = 0
    _called: set[int] = field(default_factory=set)

    def takes(self, trial: MutantTrial) -> bool:
        """Add ``trial`` if it gets along with the others, and return whether it does."""
        impact = trial.impact
        if len(self.trials) == _MOST or self._could_tell & trial.cases or self.cases & impact.cases:
            return False
        # What one changes must not be what the other brings new cases to.
        if impact.units & (self.units | self._called) or self.units & impact.calls:
            return False
        self.trials.append(trial)
        self.cases |= trial.cases
        self._could_tell |= impact.cases
        self.units |= impact.units
        self._called |= impact.calls
        return True


def batches(trials: Iterable[MutantTrial]) -> list[MutantBatch]:
    """Pack trials, each into the first batch that takes it."""
    packed: list[MutantBatch] = []
    for trial in trials:
        if not any(batch.takes(trial) for batch in packed if len(batch.trials) < _MOST):
            packed.append(MutantBatch())
            packed[-1].takes(trial)
    return packed
