"""What a deployed service costs in a month in which nobody uses it. Integer micro-dollars."""

from __future__ import annotations

from .names import Service

__all__ = ["idle_month"]

_MONTH_SECONDS = 730 * 3600
_IDLE_PICODOLLARS = 2_500_000
"""Of one vCPU-second, and of one GiB-second, of an idle minimum instance: $0.0000025 in regions of tier 1
(https://cloud.google.com/run/pricing, request-based billing)."""

_SECRET_VERSION = 60_000
"""Micro-dollars of one active secret version in a month (https://cloud.google.com/secret-manager/pricing)."""

_PICO = 1_000_000


def idle_month(service: Service) -> list[tuple[str, int]]:
    """Each item and its micro-dollars; free allowances are not taken off."""
    mebibytes = int(service.memory[:-2]) * (1024 if service.memory.endswith("Gi") else 1)
    cpu = _MONTH_SECONDS * _IDLE_PICODOLLARS // _PICO
    memory = _MONTH_SECONDS * _IDLE_PICODOLLARS * mebibytes // (1024 * _PICO)
    return [
        (f"{service.name}: {service.min_instances} warm instances", service.min_instances * (cpu + memory)),
        (f"{service.name}: {len(service.secrets)} secrets", len(service.secrets) * _SECRET_VERSION),
    ]
