"""The statements that a turn takes in SQLite."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

import pytest
from firelaunch.testing.apps import sign_in
from firelaunch.testing.models import ModelServer


def test_a_turn_takes_ten_statements_of_which_two_commit(
    make_app: Any, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    ada = sign_in(make_app(OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    for number in range(5):  # a chat's first turn makes its documents, the later ones change them
        statements.clear()
        assert ada.send(chat, f"Question {number}").status_code == 200
        kinds = Counter(statement.split()[0] for statement in statements)
        assert kinds == {"SELECT": 4, "BEGIN": 2, "INSERT": 2, "COMMIT": 2}
