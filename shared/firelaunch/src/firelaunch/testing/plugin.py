"""Provide pytest fixtures: one Firestore emulator for each test session, and one project for each test.

Without an emulator the tests that need it are skipped, with a visible line at the end; with ``REQUIRE_EMULATOR=1`` they
fail instead. Every pytest run of the environment loads the plugin, so it imports nothing heavy before a test uses a
fixture.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..store.firestore import FirestoreStore
    from .emulator import Emulator

_MISSING = "no Firestore emulator"


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A running Firestore emulator, shared by all workers of a pytest-xdist run."""
    from .emulator import Emulator, EmulatorUnavailable

    try:
        if "PYTEST_XDIST_WORKER" in os.environ:
            yield Emulator(_shared_host(tmp_path_factory))
            return
        emulator = Emulator.start()
    except EmulatorUnavailable as error:
        if os.environ.get("REQUIRE_EMULATOR") == "1":
            pytest.fail(f"{_MISSING}, and REQUIRE_EMULATOR=1: {error}", pytrace=False)
        pytest.skip(f"{_MISSING}: {error}")
    with emulator:
        yield emulator


@pytest.fixture
def firestore_project() -> str:
    """An unused project id, which has its own data and rules."""
    return f"demo-{secrets.token_hex(8)}"


@pytest.fixture
def emulator_store(firestore_emulator: Emulator, firestore_project: str) -> Iterator[FirestoreStore]:
    """An empty store on the emulator."""
    store = firestore_emulator.store(firestore_project)
    yield store
    store.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests were skipped because there is no emulator."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _MISSING in str(r.longrepr)]
    if skipped:
        from .emulator import MEND

        line = f"{len(skipped)} tests were SKIPPED for want of the Firestore emulator: {MEND}."
        terminalreporter.write_line(line, yellow=True, bold=True)


def _shared_host(factory: pytest.TempPathFactory) -> str:
    """Return the host of the run's emulator. The first worker starts it, and it lives as long as the run."""
    import fcntl

    from .emulator import Emulator, EmulatorUnavailable

    folder = factory.getbasetemp().parent
    with (folder / "firestore-emulator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host_file = folder / "firestore-emulator.host"
        if not host_file.exists():
            try:
                host_file.write_text(Emulator.start(owner=os.getppid()).host)
            except EmulatorUnavailable as error:
                host_file.write_text(f"!{error}")
        host_or_error = host_file.read_text()
    if host_or_error.startswith("!"):
        raise EmulatorUnavailable(host_or_error[1:])
    return host_or_error
