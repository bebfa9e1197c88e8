"""Results of proofs, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .estimate import ITEMS, MINUTES, total
from .manifest import Manifest
from .proofs import PROOFS
from .removal import Left
from .resources import KINDS

__all__ = ["ProofOutcome", "ProofResult", "dry_run", "estimate_lines", "proof_lines", "table"]

_SHARED = (
    "In a shared project (--in-shared-project) it changes no rules, no Auth, no APIs and no",
    "shared indexes, and skips the proofs that would take them.",
)


@dataclass(frozen=True, slots=True)
class ProofResult:
    """One proof's end. ``seen`` is what was there; of one that failed, ``expected`` and ``where`` say more."""

    name: str
    shows: str
    result: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    seen: str = ""
    expected: str = ""
    where: str = ""


@dataclass(slots=True)
class ProofOutcome:
    """One run, from its deploy to its removal.

    Args:
        problem: why it came to no proofs, or broke off; empty where it did not.
        left: what could not be removed.
    """

    manifest: Manifest
    results: list[ProofResult] = field(default_factory=list)
    seconds: float = 0.0
    problem: str = ""
    left: list[Left] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether no proof failed and nothing is left."""
        return not self.problem and not self.left and all(result.result != "failed" for result in self.results)

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        manifest = self.manifest
        return {
            "run": manifest.run,
            "project": manifest.project,
            "region": manifest.region,
            "app": manifest.app,
            "shared": manifest.shared,
            "begun": manifest.begun,
            "seconds": round(self.seconds, 1),
            "estimate_micro_usd": total(),
            "holds": self.holds,
            "problem": self.problem,
            "proofs": [asdict(result) for result in self.results],
            "removed": sum(resource.state == "removed" for resource in manifest.resources),
            "left": [asdict(each) for each in self.left],
            "stays": list(manifest.changes),
            "manifest": str(manifest.path),
        }


def table(results: Sequence[ProofResult]) -> list[str]:
    """A line for each proof, with more below one that failed."""
    width = max((len(result.name) for result in results), default=0)
    lines = []
    for result in results:
        took = f"{result.seconds:6.1f} s" if result.result != "skipped" else "       -"
        lines.append(f"{result.name:{width}}  {result.result:7} {took}  {result.seen or result.shows}")
        if result.result == "failed":
            lines += [f"{'':{width}}  expected: {result.expected}"] if result.expected else []
            lines += [f"{'':{width}}  look at:  {result.where}"] if result.where else []
    counts = {kind: sum(result.result == kind for result in results) for kind in ("passed", "failed", "skipped")}
    return [*lines, ", ".join(f"{count} {kind}" for kind, count in counts.items())]


def proof_lines() -> list[str]:
    """List the proofs, and what each needs."""
    width = max(len(proof.name) for proof in PROOFS)
    return [
        f"    {proof.name:{width}}  {proof.shows}{'; not in a shared project' if 'rules' in proof.needs else ''}"
        for proof in PROOFS
    ]


def estimate_lines() -> list[str]:
    """The cost's items, their sum and the time."""
    usual, most = MINUTES
    return [
        f"estimate: ${_dollars(total())} and {usual} minutes, {most} at most",
        *(f"    ${_dollars(item.micro_usd)}  {item.what}\n             {item.source}" for item in ITEMS),
        "    List prices of tier 1 regions, without free allowances, rounded up.",
    ]


def dry_run(manifest: Manifest, kinds: Iterable[str] = ()) -> list[str]:
    """The whole plan: proofs, what is made, what of the project changes, and the estimate."""
    return [
        f"firelaunch verify {manifest.project}, {manifest.region}. Nothing is done now.",
        f"It deploys a throw-away app, verify-RUN, proves {len(PROOFS)} things, and removes the app.",
        "",
        "proofs",
        *proof_lines(),
        "",
        "made, noted in a manifest first, and removed at the end or after Ctrl-C",
        *_made_lines(manifest, kinds),
        "",
        "changed in the project as a whole where it is missing, and left",
        "    APIs, Firebase, Firebase Authentication, the account that builds images and the",
        "    repository of images: what the first deploy of any app makes, and costs nothing",
        *(f"    {line}" for line in _SHARED),
        "",
        *estimate_lines(),
    ]


def _made_lines(manifest: Manifest, kinds: Iterable[str]) -> list[str]:
    wanted: Mapping[str, Any] = {kind: KINDS[kind] for kind in (tuple(kinds) or KINDS)}
    lines = []
    for kind in wanted.values():
        count = f"{len(kind.names(manifest))} " if kind.names else ""
        lines.append(f"    {count}{kind.title}: known by {kind.mark}")
    return lines


def _dollars(micro: int) -> str:
    return f"{micro / 1_000_000:.4f}" if micro < 10_000 else f"{micro / 1_000_000:.2f}"
