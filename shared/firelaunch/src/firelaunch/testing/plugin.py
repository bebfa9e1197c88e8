"""The pytest plugin: one Firestore emulator a test session, one project a test.

Where none can be had the tests that want it are skipped, with one loud line at the end; with ``REQUIRE_EMULATOR=1``
they fail instead. The plugin is loaded in every pytest run of its environment, so it imports nothing heavy before a
fixture is used.
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
    """A project id that nothing has used before: a namespace of its own, for data and rules."""
    return f"demo-{secrets.token_hex(8)}"


@pytest.fixture
def emulator_store(firestore_emulator: Emulator, firestore_project: str) -> Iterator[FirestoreStore]:
    """An empty store on the emulator."""
    store = firestore_emulator.store(firestore_project)
    yield store
    store.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The one loud line."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _MISSING in str(r.longrepr)]
    if skipped:
        from .emulator import MEND

        line = f"{len(skipped)} tests were SKIPPED for want of the Firestore emulator: {MEND}."
        terminalreporter.write_line(line, yellow=True, bold=True)


def _shared_host(factory: pytest.TempPathFactory) -> str:
    """The host of the run's one emulator. The worker that comes first starts it, to live as long as the run."""
    import fcntl

    from .emulator import Emulator, EmulatorUnavailable

    folder = factory.getbasetemp().parent
    with (folder / "firestore-emulator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / "firestore-emulator.host"
        if not note.exists():
            try:
                note.write_text(Emulator.start(owner=os.getppid()).host)
            except EmulatorUnavailable as error:
                note.write_text(f"!{error}")
        said = note.read_text()
    if said.startswith("!"):
        raise EmulatorUnavailable(said[1:])
    return said
