"""Connections that are kept for their next use."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from firelaunch.store.connections import SpareConnections


def connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("SELECT 1")
    return connection


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


def test_the_connection_that_was_used_last_is_used_next_and_by_its_owner_alone(tmp_path: Path) -> None:
    spare, ada, ben = SpareConnections(4), object(), object()
    first, second = connected(tmp_path / "ada"), connected(tmp_path / "ada")
    spare.put(ada, first)
    spare.put(ada, second)
    assert spare.take(ben) is None
    assert spare.take(ada) is second
    assert spare.take(ada) is first
    assert spare.take(ada) is None
    first.close()
    second.close()


def test_beyond_the_bound_the_connection_that_was_unused_for_longest_is_closed_whoever_owns_it(tmp_path: Path) -> None:
    spare, owners = SpareConnections(2), [object() for _ in range(5)]
    connections = [connected(tmp_path / f"{number}") for number in range(5)]
    for owner, connection in zip(owners, connections, strict=True):
        spare.put(owner, connection)
    assert [is_closed(connection) for connection in connections] == [True, True, True, False, False]
    assert [spare.take(owner) for owner in owners[:3]] == [None] * 3
    for owner in owners:
        spare.close(owner)
    assert all(map(is_closed, connections))


@pytest.mark.parametrize("kept", [1, 3])
def test_closing_those_of_one_owner_leaves_those_of_others(tmp_path: Path, kept: int) -> None:
    spare, ada, ben = SpareConnections(8), object(), object()
    of_ada = [connected(tmp_path / "ada") for _ in range(kept)]
    of_ben = connected(tmp_path / "ben")
    for connection in of_ada:
        spare.put(ada, connection)
    spare.put(ben, of_ben)
    spare.close(ada)
    assert all(map(is_closed, of_ada))
    assert spare.take(ben) is of_ben
    of_ben.close()
