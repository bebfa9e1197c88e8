"""What is Vertex AI's own: what it refuses, what it returns by mistake, when it is away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from fakes.vertex_index import VertexIndexServer
from firelaunch.errors import IndexFailed, IndexUnavailable
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.index.vertex import VertexIndex
from firelaunch.scope import Scope
from firelaunch.testing.http import HttpAnswer

ADA, BEN, SHOP = Scope("demo", "ada"), Scope("demo", "ben"), Scope("shop", "ada")
ONE = np.eye(8, dtype=np.float32)[0]


def post(server: VertexIndexServer, path: str, body: Any) -> tuple[int, str]:
    answer = requests.post(f"{server.base_url}/{path}", json=body, timeout=5)
    return answer.status_code, answer.text


RESTRICTS = [{"namespace": name, "allowList": ["x"]} for name in ("app", "owner", "version")]


def point(**changes: Any) -> dict[str, Any]:
    return {"datapointId": "a", "featureVector": [1.0] * 8, "restricts": RESTRICTS, **changes}


@pytest.mark.parametrize(
    ("datapoints", "says"),
    [
        ([point(featureVector=[1.0] * 7)], "7 dimensions"),
        ([point(restricts=RESTRICTS[:2])], "restricts"),
        ([point(restricts=[])], "restricts"),
        ([point(restricts=[*RESTRICTS[:2], {"namespace": "version", "allowList": []}])], "restricts"),
        ([point(colour="red")], "colour"),
        ([point(featureVector="text")], "Invalid JSON"),
        ([point(datapointId="")], "no id"),
        ([point(datapointId=str(n)) for n in range(1_001)], "1000 at most"),
        ([], "0 datapoints"),
    ],
)
def test_the_local_server_refuses_what_google_refuses(
    vertex_server: VertexIndexServer, datapoints: list[Any], says: str
) -> None:
    status, text = post(vertex_server, f"{vertex_server.INDEX}:upsertDatapoints", {"datapoints": datapoints})
    assert (status, says in text) == (400, True), text
    assert vertex_server.datapoints == {}


def test_a_large_write_is_sent_in_parts_that_are_allowed(
    vertex_server: VertexIndexServer, vertex_index: VertexIndex
) -> None:
    vertex_index.upsert(ADA, "v1", [Entry(f"e{n}", "d", "t", ONE) for n in range(250)])
    assert [len(body["datapoints"]) for _, body in vertex_server.requests] == [100, 100, 50]
    vertex_index.delete(ADA, "d")
    assert vertex_server.datapoints == {}


def test_foreign_ids_that_the_index_returns_lead_to_no_text_and_are_reported(
    vertex_server: VertexIndexServer, vertex_index: VertexIndex, caplog: pytest.LogCaptureFixture
) -> None:
    for scope in (ADA, BEN, SHOP):
        vertex_index.upsert(scope, "v1", [Entry("a", "d", f"secret of {scope.root}", ONE)])
    vertex_index.upsert(ADA, "v2", [Entry("a", "d", "another version", ONE)])
    vertex_server.extra = [*vertex_server.datapoints, "nonsense", "demo:user%3Aada:v1:gone"]
    logging.getLogger("firelaunch").propagate = True  # an app made by another test may have its own handler
    with caplog.at_level(logging.ERROR):
        hits = ScopedIndex(vertex_index, "demo").nearest(ADA, "v1", ONE, 1)
    assert {(hit.entry.text, hit.owner) for hit in hits} == {("secret of apps/demo/users/ada", "user:ada")}
    assert "security: the index returned 4 entries" in caplog.text
    assert "secret of" not in caplog.text


def test_a_datapoint_whose_text_is_gone_is_no_hit(vertex_server: VertexIndexServer, vertex_index: VertexIndex) -> None:
    vertex_index.upsert(ADA, "v1", [Entry("a", "d", "text", ONE)])
    left = dict(vertex_server.datapoints)
    vertex_index.delete(ADA)
    vertex_server.datapoints.update(left)
    assert vertex_index.nearest(ADA, "v1", ONE, 5) == []


def test_passing_faults_are_tried_again_and_lasting_ones_are_not(
    vertex_server: VertexIndexServer, vertex_index: VertexIndex
) -> None:
    vertex_server.script = [HttpAnswer(503, b"busy"), HttpAnswer(429, {}), HttpAnswer(0, None)]
    vertex_index.upsert(ADA, "v1", [Entry("a", "d", "text", ONE)])
    assert len(vertex_server.requests) == 4
    vertex_server.script = [HttpAnswer(403, {"error": {"message": "no permission"}})]
    with pytest.raises(IndexFailed, match="no permission"):
        vertex_index.nearest(ADA, "v1", ONE, 5)
    assert len(vertex_server.requests) == 5


def test_a_deletion_that_was_broken_off_is_finished_by_the_next(
    vertex_server: VertexIndexServer, vertex_index: VertexIndex
) -> None:
    vertex_index.upsert(ADA, "v1", [Entry("a", "d", "text", ONE)])
    vertex_server.script = [HttpAnswer(403, {})]
    with pytest.raises(IndexFailed):
        vertex_index.delete(ADA, "d")
    assert vertex_index.count(ADA, "v1") == 1
    vertex_index.delete(ADA, "d")
    assert (vertex_index.count(ADA, "v1"), vertex_server.datapoints) == (0, {})


def test_a_service_that_is_away_is_a_passing_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from firelaunch.rag.index import vertex
    from firelaunch.store.sqlite import SQLiteStore

    monkeypatch.setattr(vertex, "_QUERY_SECONDS", 0.3)
    nowhere = VertexIndexServer(8).clients()
    texts = SQLiteStore(tmp_path / "s")
    index = VertexIndex(VertexIndexServer.INDEX, VertexIndexServer.ENDPOINT, "d", "x", texts, nowhere, nowhere)
    with pytest.raises(IndexUnavailable):
        index.nearest(ADA, "v1", ONE, 5)


def test_rare_words_count_for_more_than_common_ones_though_no_datapoint_knows_how_rare_they_are(
    vertex_index: Any, vertex_server: Any
) -> None:
    common = [Entry(f"c{n}", "doc", "flow flow flow past a plate", np.ones(8, np.float32)) for n in range(30)]
    rare = Entry(
        "rare", "doc", "one ornithopter in the flow of many other things that are said here", np.ones(8, np.float32)
    )
    vertex_index.upsert(ADA, "v1", [*common, rare])
    best = vertex_index.matching(ADA, "v1", "flow of the ornithopter", 5)
    assert best[0].entry.id == "rare"
    assert len(best) == 5
    points = vertex_server.datapoints.values()
    assert all(len(point.sparse_embedding.values) == len(point.sparse_embedding.dimensions) > 0 for point in points)
    assert all(value > 0 for point in points for value in point.sparse_embedding.values)


def test_a_text_of_thousands_of_terms_has_a_bounded_sparse_embedding(vertex_index: Any, vertex_server: Any) -> None:
    text = " ".join(f"term{n}" for n in range(5_000)) + " repeated" * 20
    vertex_index.upsert(ADA, "v1", [Entry("long", "doc", text, np.ones(8, np.float32))])
    (point,) = vertex_server.datapoints.values()
    assert len(point.sparse_embedding.values) == 500
    assert [hit.entry.id for hit in vertex_index.matching(ADA, "v1", "repeated", 3)] == ["long"]


def test_foreign_datapoints_that_words_find_come_without_a_text(vertex_index: Any, vertex_server: Any) -> None:
    vertex_index.upsert(ADA, "v1", [Entry("own", "doc", "wing", np.ones(8, np.float32))])
    vertex_server.extra.append("shop:user%3Aada:v1:theirs")
    hits = vertex_index.matching(ADA, "v1", "wing", 3)
    assert {(hit.app_id, hit.entry.id, hit.entry.text) for hit in hits} == {
        ("demo", "own", "wing"),
        ("shop", "theirs", ""),
    }
