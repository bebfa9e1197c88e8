"""What is Vector Search's own: what it refuses, batches, pages, and a poisoned collection."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import requests
from fakes.vector_search import VectorSearchServer
from firelaunch.errors import IndexFailed
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.index.vector_search import VectorSearchIndex
from firelaunch.scope import Scope
from firelaunch.testing.http import HttpAnswer

ADA = Scope("demo", "ada")
ONE = np.eye(8, dtype=np.float32)[0]
DATA = {"app": "demo", "owner": "user:ada", "version": "v1", "text": "t"}


def create(count: int = 1, **changes: Any) -> dict[str, Any]:
    item = {"data": DATA, "vectors": {"embedding": {"dense": {"values": [1.0] * 8}}}, **changes}
    parent = VectorSearchServer.COLLECTION
    return {"requests": [{"parent": parent, "dataObjectId": f"c{n}", "dataObject": item} for n in range(count)]}


IN_SCOPE = {"$and": [{"app": {"$in": ["demo"]}}, {"version": {"$in": ["v1"]}}]}
SEARCH = {"searchField": "embedding", "vector": {"values": [1.0] * 8}, "topK": 3, "distanceMetric": "COSINE_DISTANCE"}


@pytest.mark.parametrize(
    ("method", "body", "says"),
    [
        ("batchCreate", create(vectors={"embedding": {"dense": {"values": [1.0]}}}), "1 dimensions"),
        ("batchCreate", create(vectors={"other": {"dense": {"values": [1.0] * 8}}}), "other"),
        ("batchCreate", create(data={"text": "t"}), "no app"),
        ("batchCreate", create(colour="red"), "colour"),
        ("batchCreate", create(1_001), "1000 at most"),
        ("batchCreate", {"requests": []}, "0 requests"),
        ("batchDelete", {"requests": [{"name": "projects/other/dataObjects/c1"}]}, "no data object"),
        ("search", {"vectorSearch": SEARCH}, "filter"),
        ("search", {"vectorSearch": {**SEARCH, "filter": {"$and": [{"app": {"$in": ["demo"]}}]}}}, "leaves out"),
        ("search", {"vectorSearch": {**SEARCH, "filter": {"$or": []}}}, "cannot be read"),
        ("search", {"vectorSearch": {**SEARCH, "filter": IN_SCOPE, "topK": 1_001}}, "top_k"),
        ("search", {"vectorSearch": {**SEARCH, "filter": IN_SCOPE, "vector": {"values": [1.0]}}}, "the query 1"),
        ("query", {"filter": IN_SCOPE, "colour": "red"}, "colour"),
        ("search", {"textSearch": {"searchText": "wing", "dataFieldNames": ["text"], "topK": 3}}, "filter"),
        ("search", {"textSearch": {"searchText": "wing", "topK": 3, "filter": IN_SCOPE}}, "data fields"),
    ],
)
def test_the_local_server_refuses_what_google_refuses(
    vector_search_server: VectorSearchServer, method: str, body: Any, says: str
) -> None:
    url = f"{vector_search_server.base_url}/{vector_search_server.COLLECTION}/dataObjects:{method}"
    answer = requests.post(url, json=body, timeout=30)
    assert (answer.status_code in {400, 404}, says in answer.text) == (True, True), answer.text
    assert vector_search_server.objects == {}


def test_many_entries_are_written_in_parts_and_read_in_pages(
    vector_search_server: VectorSearchServer, vector_search_index: VectorSearchIndex
) -> None:
    entries = [Entry(f"e{n}", "d", "t", ONE) for n in range(1_250)]
    vector_search_index.upsert(ADA, "v1", entries)
    vector_search_index.upsert(ADA, "v1", entries[:150])
    assert vector_search_index.count(ADA, "v1") == 1_250
    assert len(vector_search_index.read(ADA, "v1", "d")) == 1_250
    vector_search_index.delete(ADA, "d", version="v1", ids=[f"e{n}" for n in range(1_250) if n != 7])
    assert [data["chunk"] for data, _ in vector_search_server.objects.values()] == ["e7"]


def test_foreign_objects_that_the_collection_returns_are_dropped_and_reported(
    vector_search_server: VectorSearchServer, vector_search_index: VectorSearchIndex, caplog: pytest.LogCaptureFixture
) -> None:
    vector_search_index.upsert(ADA, "v1", [Entry("a", "d", "mine", ONE)])
    foreign = {"chunk": "b", "document": "d", "text": "secret", "place": "{}"}
    vector_search_server.poison = [
        {**foreign, "app": "shop", "owner": "user:ada", "version": "v1"},
        {**foreign, "app": "demo", "owner": "user:ben", "version": "v1"},
        {**foreign, "app": "demo", "owner": "user:ada", "version": "v2"},
    ]
    logging.getLogger("firelaunch").propagate = True  # an app made by another test may have its own handler
    with caplog.at_level(logging.ERROR):
        hits = ScopedIndex(vector_search_index, "demo").nearest(ADA, "v1", ONE, 5)
    assert [hit.entry.text for hit in hits] == ["mine"]
    assert "security: the index returned 3 entries" in caplog.text
    assert "secret" not in caplog.text


def test_passing_faults_are_tried_again_and_lasting_ones_are_not(
    vector_search_server: VectorSearchServer, vector_search_index: VectorSearchIndex
) -> None:
    vector_search_server.script = [HttpAnswer(503, b"busy"), HttpAnswer(0, None)]
    assert vector_search_index.nearest(ADA, "v1", ONE, 5) == []
    assert len(vector_search_server.requests) == 3
    vector_search_server.script = [HttpAnswer(403, {"error": {"message": "no permission"}})]
    with pytest.raises(IndexFailed, match="no permission"):
        vector_search_index.nearest(ADA, "v1", ONE, 5)


def test_a_text_search_sends_the_words_of_a_question_and_no_sign_that_could_be_a_language(
    vector_search_index: Any, vector_search_server: Any
) -> None:
    vector_search_index.upsert(ADA, "v1", [Entry("a", "doc", "the lift of a wing", ONE)])
    hits = vector_search_index.matching(ADA, "v1", 'What is "LIFT" -wing OR (field:x*)?', 3)
    assert [hit.entry.id for hit in hits] == ["a"]
    _, body = vector_search_server.requests[-1]
    assert body["textSearch"]["searchText"] == "lift wing field x"
    before = len(vector_search_server.requests)
    assert vector_search_index.matching(ADA, "v1", "what is it?", 3) == []
    assert len(vector_search_server.requests) == before, "nothing is asked where nothing is looked for"
