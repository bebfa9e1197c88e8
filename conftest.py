"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes says what else the machine does, and nothing about what must hold.
settings.register_profile("firelaunch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("firelaunch")
