"""What holds for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says what else the machine does, and nothing about what must hold.
settings.register_profile("firelaunch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("firelaunch")

# A worker of pytest-xdist has COLUMNS, for which commands break their lines as for a terminal.
os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to ``make test-long``, which runs them and no other."""
    wanted = os.environ.get("LONG") == "1"
    left_out = [item for item in items if (item.get_closest_marker("long") is not None) != wanted]
    # A test that is asked for by its name runs, however long it is.
    if left_out and not any("::" in argument for argument in config.args):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have collections of garbage leave out what is imported: they took a third of a test's processor time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(5_000, 10, 10)
        gc.enable()
