"""What a deployed service costs in a month in which nobody uses it. Integer micro-dollars."""

from __future__ import annotations

from collections.abc import Iterable

from .names import Schedule, Service

__all__ = ["idle_month"]

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

_VERTEX_NODE = 730 * 94_000
"""Micro-dollars of one e2-standard-2 node in a month (https://cloud.google.com/vertex-ai/pricing#vectorsearch)."""

_PICO = 1_000_000


def idle_month(
    service: Service, schedules: Iterable[Schedule] = (), *, vertex_index: bool = False
) -> list[tuple[str, int]]:
    """Each item and its micro-dollars; free allowances are not taken off.

    Args:
        schedules: what Cloud Scheduler calls it for, besides the sweep of its jobs.
        vertex_index: whether the app's vectors are in an index of Vertex AI, which has a node of its own.
    """
    mebibytes = service.memory_bytes // 2**20
    second = _IDLE_PICODOLLARS + _IDLE_PICODOLLARS * mebibytes // 1024
    name, warm, secrets = service.name, service.min_instances, len(service.secrets)
    items = [(f"{name}: {warm} warm instances of {service.memory}", warm * _MONTH_SECONDS * second // _PICO)]
    if secrets:
        items.append((f"{name}: {secrets} secrets", secrets * _SECRET_VERSION))
    active = _ACTIVE_PICODOLLARS + _ACTIVE_PICODOLLARS * mebibytes // 10_240
    for each in (*([service.work.sweep] if service.work else []), *schedules):
        items.append((f"{name}: Scheduler job {each.name}", _SCHEDULER_JOB))
        seconds = each.runs * _CALL_SECONDS
        items.append((f"{name}: its {each.runs} calls of {_CALL_SECONDS} s", seconds * active // _PICO))
    if vertex_index:
        items.append((f"{name}: one node of the Vertex AI index", _VERTEX_NODE))
    return items
