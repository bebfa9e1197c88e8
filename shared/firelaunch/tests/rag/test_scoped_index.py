"""The wall around an index, whatever the index says."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import BadRequest, FirelaunchError, ScopeViolation
from firelaunch.rag.index.base import Entry, Hit
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.scope import Scope
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
VECTOR = np.array([1.0, 0.0], np.float32)
OWN = {"app_id": "demo", "owner": "user:ada", "version": "v1"}


class Poisoned:
    """An index that returns what it was given, whoever asks."""

    has_words = True

    def __init__(self, hits: list[Hit]) -> None:
        self.hits = hits
        self.asked = 0

    def nearest(self, *_: Any, **__: Any) -> list[Hit]:
        self.asked += 1
        return self.hits

    matching = texts = upsert = delete = read = count = drop = nearest


def hit(**whose: str) -> Hit:
    return Hit(**{**OWN, **whose}, entry=Entry("c1", "doc", "text"), score=1.0)  # type: ignore[arg-type]


FOREIGN = [hit(app_id="shop"), hit(owner="user:ben"), hit(version="v2"), hit(owner="ada"), hit(owner="user:ada ")]


@pytest.mark.parametrize("way", ["nearest", "matching"])
@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda h: f"{h.app_id}-{h.owner}-{h.version}")
def test_foreign_results_are_dropped_and_reported_as_a_security_event(
    foreign: Hit, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = ScopedIndex(Poisoned([hit(), foreign, hit(owner="library")]), "demo")  # type: ignore[arg-type]
    logging.getLogger("firelaunch").propagate = True  # an app made by another test may have its own handler
    with caplog.at_level(logging.ERROR, "firelaunch"):
        found = getattr(index, way)(ADA, "v1", VECTOR if way == "nearest" else "words", 5)
    assert found == [hit(), hit(owner="library")]
    # Seen twice where another test has left a handler.
    (said,) = {record.getMessage() for record in caplog.records if record.name == "firelaunch.rag.index.scoped"}
    assert said.startswith("security: ")
    assert "c1" in said
    assert "text" not in said


@pytest.mark.parametrize(
    "foreign",
    [*FOREIGN, hit(owner="library"), replace(hit(), entry=Entry("c1", "other", "text"))],
    ids=lambda h: f"{h.app_id}-{h.owner}-{h.version}-{h.entry.document}",
)
def test_what_is_read_of_a_document_is_the_scopes_own_whatever_the_index_gives(foreign: Hit) -> None:
    index = ScopedIndex(Poisoned([hit(), foreign]), "demo")  # type: ignore[arg-type]
    assert index.read(ADA, "v1", "doc") == [hit().entry]


def test_the_library_is_foreign_to_a_search_that_leaves_it_out() -> None:
    index = ScopedIndex(Poisoned([hit(), hit(owner="library")]), "demo")  # type: ignore[arg-type]
    assert index.nearest(ADA, "v1", VECTOR, 5, library=False) == [hit()]


@given(
    st.lists(
        st.sampled_from(["demo", "shop", "demo ", ""]).flatmap(
            lambda app: st.builds(
                lambda owner, version: hit(app_id=app, owner=owner, version=version),
                st.sampled_from(["user:ada", "user:ben", "library", "user:", ""]),
                st.sampled_from(["v1", "v2", ""]),
            )
        )
    )
)
def test_whatever_an_index_returns_only_the_scopes_own_comes_out(hits: list[Hit]) -> None:
    index = ScopedIndex(Poisoned(hits), "demo")  # type: ignore[arg-type]
    own = [h for h in hits if h in (hit(), hit(owner="library"))]
    assert index.nearest(ADA, "v1", VECTOR, 5) == own


def test_another_apps_scope_is_refused_before_the_index_is_asked() -> None:
    poisoned = Poisoned([])
    index = ScopedIndex(poisoned, "demo")  # type: ignore[arg-type]
    other = Scope("shop", "ada")
    for call in (
        lambda: index.nearest(other, "v1", VECTOR, 1),
        lambda: index.matching(other, "v1", "x", 1),
        lambda: index.upsert(other, "v1", [Entry("c", "d", "t")]),
        lambda: index.delete(other),
        lambda: index.read(other, "v1", "d"),
        lambda: index.count(other, "v1"),
    ):
        with pytest.raises(ScopeViolation):
            call()
    assert poisoned.asked == 0


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a/b", "doc", "t"),
        Entry("a", "../doc", "t"),
        Entry("a", "doc", "t", np.array([np.nan, 1.0], np.float32)),
        Entry("a", "doc", "t", np.array([np.inf, 1.0], np.float32)),
        Entry("a", "doc", "t", np.zeros(2, np.float32)),
        Entry("a", "doc", "t", np.zeros(0, np.float32)),
        Entry("a", "doc", "t", tags={"owner": "user:ben"}),
        Entry("a", "doc", "t", tags={"Bad-Name": "x"}),
        Entry("a", "doc", "t", tags={"long": "x" * 300}),
    ],
)
def test_an_entry_that_an_index_could_misread_is_refused(entry: Entry) -> None:
    poisoned = Poisoned([])
    with pytest.raises(FirelaunchError):
        ScopedIndex(poisoned, "demo").upsert(ADA, "v1", [entry])  # type: ignore[arg-type]
    assert poisoned.asked == 0


@pytest.mark.parametrize(
    ("k", "where", "version"),
    [
        (0, None, "v1"),
        (1001, None, "v1"),
        (5, {"owner": ["user:ben"]}, "v1"),
        (5, {"app": ["shop"]}, "v1"),
        (5, {"lang": "en"}, "v1"),
        (5, {"lang": []}, "v1"),
        (5, {"lang": ["x"] * 31}, "v1"),
        (5, {"a b": ["x"]}, "v1"),
        (5, None, "../v1"),
        (5, None, ""),
    ],
)
def test_a_query_that_an_index_could_misread_is_refused(k: int, where: Any, version: str) -> None:
    poisoned = Poisoned([])
    index = ScopedIndex(poisoned, "demo")  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        index.nearest(ADA, version, VECTOR, k, where)
    with pytest.raises(BadRequest):
        index.matching(ADA, version, "x", k, where)
    assert poisoned.asked == 0
