"""Compute the cost of a deployed service in a month without users, in integer micro-dollars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from firelaunch.settings.app import Settings
from firelaunch.settings.sections import Cloud

from .resources import Schedule, Service
from .vertex import NODE, own_index

__all__ = ["backup_costs", "idle_month", "index_kind"]

IndexKind = Literal["own", "named"]

_MONTH_SECONDS = 730 * 3600
_IDLE_PICODOLLARS = 2_500_000
"""Of one vCPU-second, and of one GiB-second, of an idle minimum instance: $0.0000025 in regions of tier 1
(https://cloud.google.com/run/pricing, request-based billing)."""

_SECRET_VERSION = 60_000
"""Micro-dollars of one active secret version in a month (https://cloud.google.com/secret-manager/pricing)."""

_SCHEDULER_JOB = 100_000
"""Micro-dollars of one Cloud Scheduler job in a month (https://cloud.google.com/scheduler/pricing)."""

_CALL_SECONDS = 2
"""An estimate for the request and its share of cold starts; it is billed as an active instance."""
_ACTIVE_PICODOLLARS = 24_000_000
"""Of one vCPU-second of an active instance, tier 1 (as above). Of a GiB-second: a tenth of it, about."""

_NODE_HOUR = 94_000
"""Micro-dollars of one node of the smallest machine, e2-standard-2, in an hour; of us-central1, and some more elsewhere
(https://cloud.google.com/vertex-ai/pricing#vectorsearch)."""

_BACKUP = 30_000
"""Micro-dollars of one GiB in one backup in a month; each is a whole copy (https://cloud.google.com/firestore/pricing)."""
_VERSIONS = 150_000
"""An estimate for the versions of 7 days of one GiB in a month: as much again as the data, at the price of stored data
in us-central1 (https://cloud.google.com/firestore/pricing). A database of which much is rewritten takes more."""

_PICO = 1_000_000


def _counted(number: int, one: str) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def idle_month(
    service: Service, schedules: Iterable[Schedule] = (), *, index: IndexKind | None = None
) -> list[tuple[str, int]]:
    """Each item and its micro-dollars; free allowances are not taken off.

    Args:
        schedules: what Cloud Scheduler calls it for, besides the sweep of its jobs.
        index: where the app's vectors are in an index of Vertex AI, which has a node: its own, or one that several apps
            may share.
    """
    mebibytes = service.memory_bytes // 2**20
    second = _IDLE_PICODOLLARS + _IDLE_PICODOLLARS * mebibytes // 1024
    name, warm, secrets = service.name, service.min_instances, len(service.secrets)
    items = [
        (
            f"{name}: {_counted(warm, 'warm instance')} of {service.memory}",
            warm * _MONTH_SECONDS * second // _PICO,
        )
    ]
    if secrets:
        items.append((f"{name}: {_counted(secrets, 'secret')}", secrets * _SECRET_VERSION))
    active = _ACTIVE_PICODOLLARS + _ACTIVE_PICODOLLARS * mebibytes // 10_240
    for each in (*([service.work.sweep] if service.work else []), *schedules):
        items.append((f"{name}: Scheduler job {each.name}", _SCHEDULER_JOB))
        seconds = each.runs * _CALL_SECONDS
        items.append((f"{name}: its {each.runs} calls of {_CALL_SECONDS} s", seconds * active // _PICO))
    if index:
        whose = "its Vertex AI index" if index == "own" else "the Vertex AI index that it names"
        hourly = f"${_NODE_HOUR / 1_000_000:.3f} an hour, https://cloud.google.com/vertex-ai/pricing#vectorsearch"
        items.append((f"{name}: one {NODE['machine_type']} node of {whose}; {hourly}", 730 * _NODE_HOUR))
    return items


def backup_costs(database: str, cloud: Cloud) -> list[tuple[str, int]]:
    """Each item and its micro-dollars a month for one GiB of data; Firestore's free allowance holds for neither."""
    items = []
    if cloud.point_in_time:
        items.append((f"{database}: versions of 7 days, for 1 GiB of data", _VERSIONS))
    if cloud.backup_days:
        items.append((f"{database}: {cloud.backup_days} daily backups, for 1 GiB of data", cloud.backup_days * _BACKUP))
    return items


def index_kind(settings: Settings) -> IndexKind | None:
    """Return the kind of the app's Vertex AI index; None if it has no such index."""
    if settings.index.backend != "vertex":
        return None
    return "own" if own_index(settings) else "named"
