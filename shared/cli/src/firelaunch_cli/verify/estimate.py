"""Estimate a run's cost and time before it begins, in integer micro-dollars and without Google's free allowances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ITEMS", "MINUTES", "Item", "total"]


@dataclass(frozen=True, slots=True)
class Item:
    """One part of the cost, at list prices of regions of tier 1, and the page that has the price."""

    what: str
    micro_usd: int
    source: str


_BUILD_MINUTE = 6_000
"""Cloud Build's default pool, e2-standard-2."""
_VCPU_SECOND, _GIB_SECOND = 24, 3
"""Of an active instance; 2.5 micro-dollars for a GiB-second, rounded up."""
_SCHEDULER_JOB = 100_000
_WRITES, _READS = 4_000, 8_000
_BUILDS, _BUILD_MINUTES = 2, 5
_INSTANCE_SECONDS = 2 * 20 * 60

ITEMS: Sequence[Item] = (
    Item(
        f"{_BUILDS} images, {_BUILD_MINUTES} minutes each",
        _BUILDS * _BUILD_MINUTES * _BUILD_MINUTE,
        "https://cloud.google.com/build/pricing",
    ),
    Item(
        "2 instances of 1 vCPU and 512 MiB, 20 minutes each",
        _INSTANCE_SECONDS * _VCPU_SECOND + _INSTANCE_SECONDS * _GIB_SECOND // 2,
        "https://cloud.google.com/run/pricing",
    ),
    Item(
        "3 Cloud Scheduler jobs, as for a whole month",
        3 * _SCHEDULER_JOB,
        "https://cloud.google.com/scheduler/pricing",
    ),
    Item(
        f"Firestore: {_WRITES:,} writes, {_READS:,} reads",
        _WRITES * 180 // 100 + _READS * 60 // 100,
        "https://cloud.google.com/firestore/pricing",
    ),
    Item(
        "Gemini Flash-Lite: 20,000 tokens in, 8,000 out",
        20_000 * 300 // 1_000 + 8_000 * 2_500 // 1_000,
        "https://cloud.google.com/vertex-ai/generative-ai/pricing",
    ),
    Item("Gemini Embedding: 2,000 tokens", 300, "https://cloud.google.com/vertex-ai/generative-ai/pricing"),
    Item("images and files for an hour: 1 GB", 200, "https://cloud.google.com/artifact-registry/pricing"),
    Item("Cloud Tasks, Pub/Sub, Eventarc: under 1,000 messages", 400, "https://cloud.google.com/tasks/pricing"),
)
"""Rounded up, with room: a run that waits for its longest delays stays below."""

MINUTES = (15, 40)
"""Usually, and where each right and each event takes as long as Google documents."""


def total() -> int:
    """Of all items."""
    return sum(item.micro_usd for item in ITEMS)
