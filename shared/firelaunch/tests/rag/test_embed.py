"""Embedders: real clients over a socket, batches, limits, retries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import ModelError, ModelRefused, ModelUnavailable, SettingsError
from firelaunch.rag.embed.base import Embedded, Embedder, estimate
from firelaunch.rag.embed.local import LocalEmbeddings
from firelaunch.rag.embed.openai_compatible import OpenAIEmbeddings
from firelaunch.rag.embed.vertex import VertexEmbeddings
from firelaunch.settings.openai_server import OpenAIServer
from firelaunch.slots import Pace
from firelaunch.testing.embeddings import OpenAIEmbeddingServer, VertexEmbeddingServer, embedding
from firelaunch.testing.http import HttpAnswer
from google.oauth2.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

TEXTS = [f"text number {n} of many" for n in range(600)]


@pytest.fixture
def openai_server() -> Iterator[OpenAIEmbeddingServer]:
    with OpenAIEmbeddingServer(reverse=True) as server:
        yield server


@pytest.fixture
def vertex_server() -> Iterator[VertexEmbeddingServer]:
    with VertexEmbeddingServer() as server:
        yield server


def openai_embedder(server: OpenAIEmbeddingServer, dimensions: int = 0, **more: Any) -> Embedder:
    return Embedder(OpenAIEmbeddings("some-model", "key", OpenAIServer(server.base_url), dimensions), **more)


def vertex_embedder(
    server: VertexEmbeddingServer, model: str, dimensions: int = 0, credentials: Any = None
) -> Embedder:
    made = VertexEmbeddings(model, "proj", "europe-west1", dimensions, server.clients(credentials))
    return Embedder(made, sleep=lambda _: None)


def test_openai_texts_are_sent_in_batches_and_vectors_come_in_the_texts_order(
    openai_server: OpenAIEmbeddingServer,
) -> None:
    found = openai_embedder(openai_server).embed(TEXTS)
    assert found.vectors.dtype == np.float32
    assert found.vectors == pytest.approx(np.array([embedding(text, 16) for text in TEXTS]), abs=1e-5)
    assert (found.tokens, found.estimated) == (5 * 600, False)
    assert [len(body["input"]) for _, body in openai_server.requests] == [256, 256, 88]
    assert openai_server.headers[0]["authorization"] == "Bearer key"
    assert "dimensions" not in openai_server.requests[0][1]


def test_shorter_vectors_are_asked_for_and_are_another_version(openai_server: OpenAIEmbeddingServer) -> None:
    embedder = openai_embedder(openai_server, 8)
    assert embedder.embed(["a"]).vectors.shape == (1, 8)
    assert openai_server.requests[0][1]["dimensions"] == 8
    assert embedder.id != openai_embedder(openai_server).id


def test_tokens_are_estimated_where_a_server_does_not_count_them() -> None:
    with OpenAIEmbeddingServer(usage=False) as server:
        found = openai_embedder(server).embed(["four words of text"])
    assert found.estimated
    assert found.tokens == len("four words of text")


@pytest.mark.parametrize(
    ("model", "dimensions", "width", "sizes"),
    [
        ("text-embedding-005", 0, 768, [250, 50]),
        ("text-embedding-005", 256, 256, [250, 50]),
        ("gemini-embedding-001", 768, 768, [1] * 300),
    ],
)
def test_vertex_requests_keep_to_each_models_limits(
    vertex_server: VertexEmbeddingServer, model: str, dimensions: int, width: int, sizes: list[int]
) -> None:
    found = vertex_embedder(vertex_server, model, dimensions).embed(TEXTS[:300])
    assert found.vectors.shape == (300, width)
    assert found.vectors[7] == pytest.approx(np.array(embedding(TEXTS[7], width)), abs=1e-5)
    assert found.tokens == 5 * 300
    assert [len(body["instances"]) for _, body in vertex_server.requests] == sizes


@pytest.mark.parametrize(("dimensions", "width"), [(0, 3072), (768, 768)])
def test_gemini_embedding_2_is_asked_text_by_text_in_its_own_form(
    vertex_server: VertexEmbeddingServer, dimensions: int, width: int
) -> None:
    embedder = vertex_embedder(vertex_server, "gemini-embedding-2", dimensions)
    found = embedder.embed(["a cat", "a dog"])
    assert (found.vectors.shape, found.estimated) == ((2, width), False)
    assert found.tokens == 2 * len(["title:", "none", "|", "text:", "a", "cat"])
    assert found.vectors[0] == pytest.approx(np.array(embedding("title: none | text: a cat", width)), abs=1e-5)
    embedder.embed(["a cat"], query=True)
    texts = [body["content"]["parts"][0]["text"] for _, body in vertex_server.requests]
    assert texts == ["title: none | text: a cat", "title: none | text: a dog", "task: search result | query: a cat"]
    assert all(path.endswith("gemini-embedding-2:embedContent") for path, _ in vertex_server.requests)


def test_vertex_is_told_which_texts_ask_and_which_are_searched(vertex_server: VertexEmbeddingServer) -> None:
    embedder = vertex_embedder(vertex_server, "text-embedding-005")
    embedder.embed(["a"])
    embedder.embed(["a"], query=True)
    tasks = [body["instances"][0]["task_type"] for _, body in vertex_server.requests]
    assert tasks == ["RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"]


def test_vertex_calls_carry_the_service_accounts_token(vertex_server: VertexEmbeddingServer) -> None:
    token = Credentials("google-token")  # type: ignore[no-untyped-call]
    vertex_embedder(vertex_server, "text-embedding-005", credentials=token).embed(["a"])
    assert vertex_server.headers[0]["authorization"] == "Bearer google-token"


def test_a_batch_over_the_tokens_of_a_request_is_halved_until_it_fits(vertex_server: VertexEmbeddingServer) -> None:
    """The estimate is of bytes; a text of one-letter words has more tokens than it says."""
    texts = ["a " * 1_500] * 30
    found = vertex_embedder(vertex_server, "text-embedding-005").embed(texts)
    assert found.vectors.shape == (30, 768)
    assert found.tokens == 45_000


def test_a_text_that_is_refused_by_itself_is_an_error_that_is_not_tried_again(
    vertex_server: VertexEmbeddingServer,
) -> None:
    with pytest.raises(ModelRefused):
        vertex_embedder(vertex_server, "text-embedding-005").embed(["a " * 21_000])
    assert len(vertex_server.requests) == 1


@pytest.mark.parametrize("texts", [[""], ["good", " \n"]])
def test_a_text_without_a_word_is_refused_before_anything_is_sent(
    openai_server: OpenAIEmbeddingServer, texts: list[str]
) -> None:
    with pytest.raises(ModelRefused):
        openai_embedder(openai_server).embed(texts)
    assert openai_server.requests == []


def test_no_texts_take_no_request(openai_server: OpenAIEmbeddingServer) -> None:
    assert len(openai_embedder(openai_server).embed([]).vectors) == 0
    assert openai_server.requests == []


FAULTS = [
    HttpAnswer(0, None),  # the first, as a connection that was kept and is closed is replaced without a pause
    HttpAnswer(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}),
    HttpAnswer(503, b"busy"),
]


@pytest.mark.parametrize("kind", ["openai", "vertex"])
def test_passing_faults_are_tried_again_after_the_time_the_server_names(
    kind: str, openai_server: OpenAIEmbeddingServer, vertex_server: VertexEmbeddingServer
) -> None:
    slept: list[float] = []
    server: Any = openai_server if kind == "openai" else vertex_server
    model: Any = (
        OpenAIEmbeddings("m", "key", OpenAIServer(openai_server.base_url))
        if kind == "openai"
        else VertexEmbeddings("text-embedding-005", "p", "r", 0, vertex_server.clients())
    )
    server.script = list(FAULTS)
    assert len(Embedder(model, sleep=slept.append).embed(["a"]).vectors) == 1
    assert len(slept) == 3
    assert slept[1] == 7.0


def test_retries_end_with_the_time_they_were_given(openai_server: OpenAIEmbeddingServer) -> None:
    openai_server.script = [HttpAnswer(429, {}, {"Retry-After": "100"})]
    with pytest.raises(ModelUnavailable):
        openai_embedder(openai_server, sleep=lambda _: pytest.fail("it waited")).embed(["a"], seconds=5)
    assert len(openai_server.requests) == 1


@pytest.mark.parametrize("body", [b"no json", {"data": []}, {"data": [{"index": 0, "embedding": []}]}, {"x": 1}])
def test_an_answer_that_is_no_list_of_embeddings_is_a_passing_fault(
    openai_server: OpenAIEmbeddingServer, body: Any
) -> None:
    openai_server.script = [HttpAnswer(200, body)]
    assert len(openai_embedder(openai_server, sleep=lambda _: None).embed(["a"]).vectors) == 1
    assert len(openai_server.requests) == 2


@pytest.mark.parametrize("body", [{"predictions": []}, {"predictions": [{}]}, {"predictions": None}, [], b"<html>"])
def test_so_it_is_of_vertex(vertex_server: VertexEmbeddingServer, body: Any) -> None:
    vertex_server.script = [HttpAnswer(200, body)]
    assert len(vertex_embedder(vertex_server, "text-embedding-005").embed(["a"]).vectors) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_retry_mends_is_raised_at_once(
    openai_server: OpenAIEmbeddingServer, vertex_server: VertexEmbeddingServer, status: int
) -> None:
    for server, embedder in (
        (openai_server, openai_embedder(openai_server)),
        (vertex_server, vertex_embedder(vertex_server, "text-embedding-005")),
    ):
        server.script = [HttpAnswer(status, {"error": {"message": "no"}})]  # type: ignore[attr-defined]
        with pytest.raises(ModelError):
            embedder.embed(["a", "b"])
        assert len(server.requests) == 1  # type: ignore[attr-defined]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Counting:
    """A model that notes when it was called and with how much."""

    id, batch_texts, batch_tokens = "counting", 10, 100

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[tuple[float, int, int]] = []

    def request(self, texts: Any, **_: Any) -> Embedded:
        self.calls.append((self.clock.now, len(texts), sum(map(estimate, texts))))
        return Embedded(np.ones((len(texts), 2), np.float32), 1)


@given(st.lists(st.text(min_size=1, max_size=200).map(lambda t: "w" + t), max_size=60))
def test_no_batch_is_over_the_models_limits_and_none_is_lost(texts: list[str]) -> None:
    model = Counting(Clock())
    assert len(Embedder(model).embed(texts).vectors) == len(texts)
    assert sum(count for _, count, _ in model.calls) == len(texts)
    assert all(count <= 10 and (tokens <= 100 or count == 1) for _, count, tokens in model.calls)


def test_requests_and_tokens_keep_to_their_limits_a_minute() -> None:
    clock = Clock()
    model = Counting(clock)
    Embedder(model, requests_per_minute=60, sleep=clock.sleep, clock=clock).embed(["abc"] * 50, seconds=600)
    assert [at for at, _, _ in model.calls] == pytest.approx([0, 1, 2, 3, 4])
    model.calls.clear()
    Embedder(model, tokens_per_minute=60, sleep=clock.sleep, clock=clock).embed(["abc"] * 30, seconds=600)
    assert np.diff([at for at, _, _ in model.calls]) == pytest.approx([10, 10])


def test_a_limit_that_leaves_no_time_says_when_to_come_back() -> None:
    clock = Clock()
    embedder = Embedder(Counting(clock), requests_per_minute=1, sleep=clock.sleep, clock=clock)
    embedder.embed(["a"])
    with pytest.raises(ModelUnavailable) as raised:
        embedder.embed(["a"], seconds=10)
    assert raised.value.retry_after == pytest.approx(60)


def test_no_limit_is_no_wait() -> None:
    assert [Pace(0).take(1_000_000) for _ in range(3)] == [0, 0, 0]


def test_the_local_model_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"local-embeddings"):
        LocalEmbeddings()


@pytest.mark.skipif(not LocalEmbeddings.installed(), reason="firelaunch[local-embeddings] is not installed")
def test_the_local_model_puts_texts_of_one_meaning_near_each_other_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it wanted the network"))
    found = Embedder(LocalEmbeddings()).embed(["A plane took off", "The aircraft left the runway", "I like soup"])
    assert found.vectors.shape == (3, 384)
    near, far = found.vectors[0] @ found.vectors[1], found.vectors[0] @ found.vectors[2]
    assert near > far + 0.2


@pytest.mark.parametrize("asked", ["inf", "nan", "9" * 5_000, "1e999"])
def test_a_wait_for_ever_that_google_asks_for_is_none(asked: str) -> None:
    with VertexEmbeddingServer() as server:
        server.script = [HttpAnswer(429, {}, {"Retry-After": asked}) for _ in range(20)]
        model = VertexEmbeddings("text-embedding-005", "p", "r", 0, server.clients())
        with pytest.raises(ModelUnavailable) as raised:
            model.request(["a"], query=True, seconds=5.0)
    assert raised.value.retry_after is None
