"""What a request has made is freed when it ends, without waiting for a garbage collection."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import httpx
from firelaunch import App
from firelaunch.testing.models import ModelServer, Reply
from flask import Response, after_this_request
from support import copy_template, served

_ROUTE = '''
"""Tells what only a garbage collection would free."""

import gc

from firelaunch import Routes
from pydantic import BaseModel

garbage_routes = Routes("garbage", public=True)


class Garbage(BaseModel):
    """Objects of firelaunch that refer to each other, by type."""

    types: dict[str, int]


@garbage_routes.post("/garbage", summary="Collect")
def collect() -> Garbage:
    """Collect garbage, and count what was found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    types: dict[str, int] = {}
    for found in gc.garbage:
        name = f"{type(found).__module__}.{type(found).__qualname__}"
        if name.startswith(("firelaunch.", "gunicorn.", "httptools.")):
            types[name] = types.get(name, 0) + 1
    gc.garbage.clear()
    return Garbage(types=types)
'''


def _app(folder: Path) -> Path:
    app = copy_template(folder / "app")
    (app / "app" / "garbage.py").write_text(_ROUTE)
    package = app / "app" / "__init__.py"
    text = package.read_text().replace("from . import workflow", "from . import garbage, workflow")
    package.write_text(text.replace("App(__name__)", "App(__name__, routes=[garbage.garbage_routes])"))
    return app


def test_turns_searches_and_extractions_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """It would come late, and until then each turn would keep all that it has read."""
    with (
        ModelServer(Reply(words=[" word"] * 24, usage=(300, 0, 24), pace=0.02)) as model,
        served(_app(tmp_path), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url) as server,
    ):
        user = {"Authorization": f"Bearer {server.client.post('/dev/token', json={'uid': 'ada'}).json()['token']}"}
        _each_kind_of_request(server.client, user)  # what the first one makes is there to stay
        server.client.post("/api/garbage").raise_for_status()
        for _ in range(3):
            _each_kind_of_request(server.client, user)
        assert server.client.post("/api/garbage").json()["types"] == {}


def _each_kind_of_request(client: httpx.Client, user: dict[str, str]) -> None:
    chat = client.post("/v1/chats", json={}, headers=user).json()["id"]
    messages = f"/v1/chats/{chat}/messages"
    assert client.post(messages, json={"text": "one"}, headers=user).status_code == 200
    stream = user | {"Accept": "text/event-stream"}
    assert "event: done" in client.post(messages, json={"text": "two"}, headers=stream).text
    with client.stream("POST", messages, json={"text": "three"}, headers=stream) as left:
        assert next(line for line in left.iter_lines() if line == "event: delta")
    assert client.post("/v1/search", json={"query": "one"}, headers=user).status_code == 200
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert client.post("/v1/extract", json={"text": "one", "schema": schema}, headers=user).status_code == 502
    tools = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepts = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    assert client.post("/mcp", content=json.dumps(tools), headers=user | accepts).status_code < 500


def test_a_function_that_a_request_leaves_for_its_answer_is_freed_with_it() -> None:
    """Flask calls it as it calls views, and it may hold all that the request has read."""
    app = App("app")

    @app.get("/left")
    def left() -> str:
        def of_this_request(response: Response) -> Response:
            return response

        kept.append(weakref.ref(of_this_request))
        after_this_request(of_this_request)
        return ""

    kept: list[weakref.ref[object]] = []
    assert app.test_client().get("/left").status_code == 200
    assert [each() for each in kept] == [None]
