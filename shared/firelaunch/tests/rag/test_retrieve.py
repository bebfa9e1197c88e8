"""From a question to passages: both rankings, the limits, and what happens without an embedder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import ModelError, ModelRefused, SettingsError
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.rag.index.base import Entry, Hit
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.retrieve import RetrievalLimits, Retriever
from firelaunch.scope import Scope
from firelaunch.testing.embeddings import embedding

ADA = Scope("demo", "ada")
TEXTS = {
    "wing": "The lift of a wing in a slipstream was measured.",
    "heat": "Heat conduction in composite slabs.",
    "cone": "Pressure on a cone at high speed.",
}


class Model:
    """Texts that share words are near each other."""

    id, batch_texts, batch_tokens = "words", 100, 10_000

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.asked: list[tuple[str, bool]] = []

    def request(self, texts: Sequence[str], *, query: bool, **_: Any) -> Embedded:
        self.asked += [(text, query) for text in texts]
        if self.fault:
            raise self.fault
        return Embedded(np.array([embedding(text, 64) for text in texts], np.float32), len(texts))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ScopedIndex]:
    made = ScopedIndex(EmbeddedIndex(tmp_path), "demo")
    yield made
    made.close()


def fill(index: ScopedIndex, texts: dict[str, str], scope: Scope = ADA, version: str = "v1") -> None:
    vectors = Embedder(Model()).embed(list(texts.values())).vectors
    index.upsert(scope, version, [Entry(n, n, t, v) for (n, t), v in zip(texts.items(), vectors, strict=True)])


def retriever(index: Any, model: Model | None, **limits: Any) -> Retriever:
    return Retriever(index, lambda: "v1", Embedder(model) if model else None, RetrievalLimits(**limits))


def found(result: Any) -> list[str]:
    return [passage.hit.entry.id for passage in result.passages]


def test_words_and_vectors_are_joined_and_passages_are_numbered_from_one(index: ScopedIndex) -> None:
    fill(index, TEXTS)
    model = Model()
    paid: list[Any] = []
    result = retriever(index, model).search(ADA, "slipstream over a wing", paid=paid.append)
    assert (result.mode, result.note, [made.tokens for made in paid]) == ("hybrid", "", [1])
    assert found(result)[0] == "wing"
    assert [passage.number for passage in result.passages] == [1, 2, 3]
    assert model.asked == [("slipstream over a wing", True)]


def test_without_an_embedder_words_alone_are_searched_and_the_result_says_so(index: ScopedIndex) -> None:
    fill(index, TEXTS)
    made = retriever(index, None)
    result = made.search(ADA, "wing of a cone")
    assert made.mode == result.mode == "lexical"
    assert "words alone" in result.note
    assert set(found(result)) == {"wing", "cone"}


@pytest.mark.parametrize("fault", [ModelError(), ModelRefused()])
def test_when_the_embedder_fails_words_alone_are_searched_and_the_result_says_so(
    index: ScopedIndex, fault: Exception
) -> None:
    fill(index, TEXTS)
    result = retriever(index, Model(fault)).search(ADA, "wing")
    assert (result.mode, found(result)) == ("lexical", ["wing"])
    assert "failed" in result.note


class VectorsOnly:
    """An index that knows no words."""

    has_words = False

    def __init__(self, index: ScopedIndex) -> None:
        self.nearest, self.texts = index.nearest, index.texts


def test_an_index_without_words_is_searched_by_vectors_and_needs_an_embedder(index: ScopedIndex) -> None:
    fill(index, TEXTS)
    result = retriever(VectorsOnly(index), Model()).search(ADA, "wing")
    assert (result.mode, found(result)[0]) == ("vector", "wing")
    with pytest.raises(ModelError):
        retriever(VectorsOnly(index), Model(ModelError())).search(ADA, "wing")
    with pytest.raises(SettingsError, match="embedder"):
        retriever(VectorsOnly(index), None)


def test_passages_are_of_the_user_and_of_the_library_and_of_nobody_else(index: ScopedIndex) -> None:
    fill(index, {"own": "wing one"})
    fill(index, {"lib": "wing two"}, Scope("demo"))
    fill(index, {"bens": "wing three"}, Scope("demo", "ben"))
    fill(index, {"later": "wing four"}, ADA, "v2")
    for model in (Model(), None):
        made = retriever(index, model)
        assert set(found(made.search(ADA, "wing"))) == {"own", "lib"}
        assert found(made.search(ADA, "wing", library=False)) == ["own"]
        assert found(made.search(ADA, "wing", {"document": ["lib"]})) == ["lib"]


def test_a_new_version_is_searched_as_soon_as_it_is_in_use(index: ScopedIndex) -> None:
    fill(index, {"old": "wing"})
    fill(index, {"new": "wing"}, version="v2")
    versions = iter(["v1", "v2"])
    made = Retriever(index, lambda: next(versions), None)
    assert [found(made.search(ADA, "wing")) for _ in range(2)] == [["old"], ["new"]]


def test_near_duplicates_are_left_out_and_different_passages_stay(index: ScopedIndex) -> None:
    text = "The lift of a wing in a slipstream was measured at many angles of attack in the tunnel."
    fill(index, {"a": text, "b": text.upper() + "!", "c": text + " Again.", "d": "A wing, otherwise."})
    assert len(found(retriever(index, None).search(ADA, "wing slipstream lift"))) == 2
    assert len(found(retriever(index, None, same=1.01).search(ADA, "wing slipstream lift"))) == 4


def test_the_passages_keep_to_their_number_and_to_the_tokens_and_the_first_always_stays(index: ScopedIndex) -> None:
    fill(index, {f"p{n}": f"wing number{n} " + f"word{n} " * 100 for n in range(20)})
    assert len(found(retriever(index, None).search(ADA, "wing"))) == 8
    assert len(found(retriever(index, None, passages=3).search(ADA, "wing"))) == 3
    assert len(found(retriever(index, None, tokens=1_000).search(ADA, "wing"))) in {3, 4}
    assert len(found(retriever(index, None, tokens=1).search(ADA, "wing"))) == 1


def test_what_is_found_by_its_vector_alone_must_be_near_enough(index: ScopedIndex) -> None:
    fill(index, TEXTS)
    assert found(retriever(index, Model(), min_cosine=0.4).search(ADA, "wing slipstream lift")) == ["wing"]
    assert len(found(retriever(index, Model()).search(ADA, "wing slipstream lift"))) == 3


def test_a_reranker_has_the_last_word_on_the_order_and_may_leave_hits_out(index: ScopedIndex) -> None:
    class ByName:
        def cost_bound(self, _: str) -> int:
            return 0

        def rerank(self, _: str, hits: Sequence[Hit], __: Any) -> Sequence[Hit]:
            return sorted((h for h in hits if h.entry.id != "heat"), key=lambda h: h.entry.id)

    fill(index, TEXTS)
    made = Retriever(index, lambda: "v1", Embedder(Model()), RetrievalLimits(), ByName())
    assert found(made.search(ADA, "wing slipstream")) == ["cone", "wing"]


@pytest.mark.parametrize("query", ["", "  \n", "the of and"])
def test_a_question_without_a_word_that_says_something_finds_nothing(index: ScopedIndex, query: str) -> None:
    fill(index, TEXTS)
    assert found(retriever(index, None).search(ADA, query)) == []


def test_a_follow_up_is_searched_with_what_was_said_before_and_its_own_words_count_more(index: ScopedIndex) -> None:
    fill(
        index,
        {
            "lamp": "The Nordlys lamp is made of glass.",
            "lamp-ship": "We ship the Nordlys to Hamburg.",
            "oven-ship": "We ship the Brasa oven to Madrid.",
            "oven": "The Brasa oven has a steam programme.",
        },
    )
    for model in (None, Model()):
        made = retriever(index, model)
        names = found(made.search(ADA, "Where do you ship it?", earlier="Tell me of the Nordlys."))
        assert names.index("lamp-ship") < names.index("oven-ship")
        names = found(made.search(ADA, "Where do you ship it?", earlier="Tell me of the Brasa oven."))
        assert names.index("oven-ship") < names.index("lamp-ship")
        assert found(made.search(ADA, "Has the Brasa oven steam?", earlier="Do you ship the Nordlys?"))[0] == "oven"


def test_a_follow_up_costs_one_embedding_of_the_question_with_what_was_said_before(index: ScopedIndex) -> None:
    fill(index, TEXTS)
    model, paid = Model(), []
    retriever(index, model).search(ADA, "how fast?", earlier="a cone", paid=paid.append)
    assert (model.asked, len(paid)) == ([("a cone\nhow fast?", True)], 1)
