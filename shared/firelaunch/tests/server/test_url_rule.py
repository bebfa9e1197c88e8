"""Addresses are built as Werkzeug builds them; a start compiles nothing for it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import url_for
from werkzeug.routing import BuildError, Map, Rule


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rules for which Werkzeug compiled how to build their address, in order."""
    found: list[str] = []
    compile_builder = Rule._compile_builder

    def counted(self: Rule, append_unknown: bool = True) -> Any:
        found.append(self.rule)
        return compile_builder(self, append_unknown)

    monkeypatch.setattr(Rule, "_compile_builder", counted)
    return found


def test_a_start_compiles_no_addresses_and_building_one_compiles_its_own_once(
    compiled: list[str], make_app: Any
) -> None:
    app = make_app()
    assert compiled == []
    with app.test_request_context():
        for _ in range(2):
            assert url_for("chats.get", id="c 1", limit=5) == "/v1/chats/c%201?limit=5"
        with pytest.raises(BuildError):
            url_for("chats.get")
    assert compiled == ["/v1/chats/<id>"]


def test_every_route_is_built_as_by_werkzeugs_own_rule(make_app: Any) -> None:
    app = make_app()
    own = app.url_map.bind("localhost")
    assert len(list(app.url_map.iter_rules())) > 50
    for rule in app.url_map.iter_rules():
        plain = Map([Rule(rule.rule, endpoint=rule.endpoint, methods=rule.methods, defaults=rule.defaults)])
        values = dict.fromkeys(rule.arguments, "a b") | {"more": "1&2"}
        method = next(iter(rule.methods))
        assert own.build(rule.endpoint, values, method) == plain.bind("localhost").build(rule.endpoint, values, method)
