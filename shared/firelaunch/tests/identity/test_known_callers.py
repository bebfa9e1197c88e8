"""Whoever shows a token that holds is told to the worker, so that they do not wait among strangers."""

from __future__ import annotations

from typing import Any

from firelaunch.functions.membership import membership_app
from firelaunch.identity.firebase import EmulatorTokens
from firelaunch.identity.known_callers import CALLER_KNOWN_KEY
from firelaunch.testing.emulator import unsigned_token


def test_the_membership_function_tells_whose_token_holds_and_nothing_of_others() -> None:
    nothing: Any = None
    client = membership_app(nothing, EmulatorTokens("demo-project")).test_client()
    for project, status, told in [("another", 401, []), ("demo-project", 404, ["ada"])]:
        known: list[str] = []
        token = unsigned_token(project, {"sub": "ada"})
        answer = client.get(
            "/nothing",
            headers={"Authorization": f"Bearer {token}"},
            environ_overrides={CALLER_KNOWN_KEY: known.append},
        )
        assert (answer.status_code, known) == (status, told)
