"""What every index must do; run against each adapter."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import numpy as np
import pytest
from firelaunch.errors import FirelaunchError, IndexFailed
from firelaunch.rag.index.base import LIBRARY, Entry, Hit, Index, owner_of
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.scope import GROUP, Scope

ADA, BEN = Scope("demo", "ada"), Scope("demo", "ben")
SHOP_ADA = Scope("shop", "ada")
V1, V2 = "v1", "v2"
D = 8


def axis(*numbers: float) -> Any:
    """A vector that begins with these numbers."""
    return np.array([*numbers, *[0.0] * (D - len(numbers))], dtype=np.float32)


def entry(name: str, vector: Any = None, text: str = "", document: str = "doc", **tags: str) -> Entry:
    place = {"page": 3, "headings": ["A", "Ö"], "start": 10, "end": 20}
    return Entry(name, document, text or f"text of {name}", axis(1) if vector is None else vector, tags, place)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.entry.id for hit in hits]


def test_the_nearest_come_first_with_their_cosines_and_all_that_was_kept(index: Index) -> None:
    near, middle, far = entry("near", axis(2, 0.2)), entry("middle", axis(1, 1), lang="de"), entry("far", axis(0, 1))
    index.upsert(ADA, V1, [far, near, middle])
    hits = index.nearest(ADA, V1, axis(5), 3)
    assert [hit.entry for hit in hits] == [near, middle, far]
    assert [hit.score for hit in hits] == pytest.approx([0.99504, 0.70711, 0.0], abs=1e-3)
    assert {(hit.app_id, hit.owner, hit.version) for hit in hits} == {("demo", "user:ada", V1)}
    assert ids(index.nearest(ADA, V1, axis(5), 2)) == ["near", "middle"]


def test_the_same_id_again_replaces_what_was_there(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a", axis(1), "old words"), entry("b", axis(0, 1))])
    changed = entry("a", axis(0, 0, 1), "new words", document="other", lang="en")
    index.upsert(ADA, V1, [changed])
    index.upsert(ADA, V1, [changed])
    assert index.count(ADA, V1) == 2
    hits = index.nearest(ADA, V1, axis(0, 0, 1), 1)
    assert [hit.entry for hit in hits] == [changed]
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)
    assert ids(index.nearest(ADA, V1, axis(1), 2, {"document": ["doc"]})) == ["b"]


def test_an_id_that_comes_twice_in_one_write_is_kept_once(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a", axis(1), "first"), entry("a", axis(0, 1), "last")])
    assert index.count(ADA, V1) == 1
    assert [hit.entry.text for hit in index.nearest(ADA, V1, axis(1), 5)] == ["last"]


def test_an_index_with_nothing_in_it_finds_nothing(index: Index) -> None:
    assert index.nearest(ADA, V1, axis(1), 5) == []
    assert index.count(ADA, V1) == 0
    assert index.read(ADA, V1, "doc") == []
    index.delete(ADA, "doc")
    index.drop("demo", V1)
    if index.has_words:
        assert index.matching(ADA, V1, "anything", 5) == []


def test_a_document_is_deleted_in_all_versions_or_in_one(index: Index) -> None:
    for version in (V1, V2):
        index.upsert(ADA, version, [entry("a"), entry("b", document="other")])
    index.delete(ADA, "doc", version=V1)
    assert (index.count(ADA, V1), index.count(ADA, V2)) == (1, 2)
    assert ids(index.nearest(ADA, V1, axis(1), 5)) == ["b"]
    index.delete(ADA, "other")
    assert (index.count(ADA, V1), index.count(ADA, V2)) == (0, 1)
    assert index.nearest(ADA, V1, axis(1), 5) == []


def test_entries_are_deleted_by_their_ids_and_others_of_their_document_stay(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a"), entry("b"), entry("c")])
    index.upsert(ADA, V2, [entry("a")])
    for _ in range(2):
        index.delete(ADA, "doc", version=V1, ids={"a", "c", "nowhere"})
    assert index.count(ADA, V2) == 1
    assert ids(index.nearest(ADA, V1, axis(1), 5)) == ["b"]


def test_deleting_without_a_document_empties_the_scope_and_no_other(index: Index) -> None:
    for scope in (ADA, BEN, Scope("demo"), SHOP_ADA):
        index.upsert(scope, V1, [entry("a"), entry("b", document="other")])
    index.delete(ADA)
    assert [index.count(scope, V1) for scope in (ADA, BEN, Scope("demo"), SHOP_ADA)] == [0, 2, 2, 2]
    index.delete(Scope("demo"))
    assert [index.count(scope, V1) for scope in (ADA, BEN, Scope("demo"), SHOP_ADA)] == [0, 2, 0, 2]


def test_a_dropped_version_is_gone_for_the_app_and_for_no_other(index: Index) -> None:
    for scope, version in itertools.product((ADA, Scope("demo"), SHOP_ADA), (V1, V2)):
        index.upsert(scope, version, [entry("a")])
    index.drop("demo", V1)
    assert [index.count(s, V1) for s in (ADA, Scope("demo"), SHOP_ADA)] == [0, 0, 1]
    assert [index.count(s, V2) for s in (ADA, Scope("demo"), SHOP_ADA)] == [1, 1, 1]
    assert index.nearest(ADA, V1, axis(1), 5) == []


def test_versions_are_never_mixed(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a", axis(1), "first version")])
    index.upsert(ADA, V2, [entry("a", axis(0, 1), "second version"), entry("b", axis(1))])
    assert [hit.entry.text for hit in index.nearest(ADA, V1, axis(1), 9)] == ["first version"]
    assert [hit.entry.text for hit in index.nearest(ADA, V2, axis(0, 1), 1)] == ["second version"]
    assert {hit.version for hit in index.nearest(ADA, V2, axis(1), 9)} == {V2}


def test_what_is_read_of_a_document_is_what_was_written(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a", axis(3, 4)), entry("b", axis(0, 0, 2)), entry("c", document="other")])
    index.upsert(BEN, V1, [entry("d")])
    found = {each.entry.id: each.entry for each in index.read(ADA, V1, "doc")}
    assert set(found) == {"a", "b"}
    assert found["a"] == entry("a")
    directions = {name: each.vector / np.linalg.norm(each.vector) for name, each in found.items()}
    assert directions["a"] == pytest.approx(axis(0.6, 0.8), abs=1e-6)
    assert directions["b"] == pytest.approx(axis(0, 0, 1), abs=1e-6)


def test_filters_keep_what_has_one_of_the_values_of_each_tag(index: Index) -> None:
    index.upsert(
        ADA,
        V1,
        [
            entry("a", axis(1), lang="de", kind="pdf"),
            entry("b", axis(1, 0.1), lang="en", kind="pdf"),
            entry("c", axis(1, 0.2), lang="en", kind="html", document="other"),
            entry("d", axis(1, 0.3)),
        ],
    )
    found = [
        ids(index.nearest(ADA, V1, axis(1), 9, where))
        for where in (
            {},
            {"lang": ["en"]},
            {"lang": ["de", "en"]},
            {"lang": ["en"], "kind": ["pdf"]},
            {"document": ["other", "none"]},
            {"document": ["doc"], "lang": ["en"]},
            {"lang": ['en" OR 1=1 --']},
            {"unknown": ["x"]},
        )
    ]
    assert found == [["a", "b", "c", "d"], ["b", "c"], ["a", "b", "c"], ["b"], ["c"], ["b"], [], []]


def test_a_users_search_reads_the_library_beside_what_is_the_users_own(index: Index) -> None:
    index.upsert(ADA, V1, [entry("own", axis(1, 0.5))])
    index.upsert(Scope("demo"), V1, [entry("shared", axis(1))])
    index.upsert(Scope("shop"), V1, [entry("elsewhere", axis(1))])
    hits = index.nearest(ADA, V1, axis(1), 9)
    assert [(hit.entry.id, hit.owner) for hit in hits] == [("shared", LIBRARY), ("own", "user:ada")]
    assert ids(index.nearest(ADA, V1, axis(1), 9, library=False)) == ["own"]
    assert ids(index.nearest(Scope("demo"), V1, axis(1), 9)) == ["shared"]
    assert index.count(ADA, V1) == 1


def test_a_user_may_be_called_what_the_library_is_called(index: Index) -> None:
    index.upsert(Scope("demo", "library"), V1, [entry("own")])
    assert index.nearest(Scope("demo"), V1, axis(1), 9) == []
    assert index.nearest(ADA, V1, axis(1), 9) == []


@pytest.mark.parametrize(
    "uid", ["a b", "ä日本\U0001f525", "../x".replace("/", "\\"), "%2e%2e", "A" * 128, "x'; --", '"', "*"]
)
def test_users_with_strange_names_have_what_is_theirs_and_no_more(index: Index, uid: str) -> None:
    index.upsert(Scope("demo", uid), V1, [entry("own")])
    index.upsert(ADA, V1, [entry("other")])
    assert ids(index.nearest(Scope("demo", uid), V1, axis(1), 9)) == ["own"]
    assert ids(index.nearest(ADA, V1, axis(1), 9)) == ["other"]
    index.delete(Scope("demo", uid), "doc")
    assert (index.count(Scope("demo", uid), V1), index.count(ADA, V1)) == (0, 1)


def test_a_vector_of_another_length_is_refused_and_nothing_is_written(index: Index) -> None:
    index.upsert(ADA, V1, [entry("a")])
    with pytest.raises(IndexFailed):
        index.upsert(ADA, V1, [entry("b", np.ones(D + 1, np.float32))])
    with pytest.raises(IndexFailed):
        index.nearest(ADA, V1, np.ones(D - 1, np.float32), 3)
    assert ids(index.nearest(ADA, V1, axis(1), 9)) == ["a"]


def test_text_of_every_script_comes_back_as_it_went_in(index: Index) -> None:
    text = "Grüße \u202eשלום مرحبا 日本語 हिन्दी \U0001f525\n\ttab 'quote\" \\ \x01"  # noqa: RUF001 - as users write
    index.upsert(ADA, V1, [entry("a", text=text)])
    assert index.nearest(ADA, V1, axis(1), 1)[0].entry.text == text
    assert index.read(ADA, V1, "doc")[0].entry.text == text


def test_words_find_their_entries_best_first_and_only_in_scope(index: Index) -> None:
    if not index.has_words:
        with pytest.raises(IndexFailed):
            index.matching(ADA, V1, "wings", 3)
        return
    index.upsert(
        ADA,
        V1,
        [
            entry("both", text="The lift of wings in a slipstream"),
            entry("one", text="A wing, and much that is about other things: heat, plates, cones and cylinders"),
            entry("none", text="Boundary layers", lang="en"),
        ],
    )
    index.upsert(BEN, V1, [entry("foreign", text="slipstream wings")])
    index.upsert(Scope("demo"), V1, [entry("shared", text="shared wing of no importance to anyone at all", lang="en")])
    index.upsert(ADA, V2, [entry("later", text="slipstream wings")])
    hits = index.matching(ADA, V1, "What do the WINGS of a slipstream do?", 9, library=False)
    assert ids(hits) == ["both", "one"]
    assert hits[0].score > hits[1].score
    assert set(ids(index.matching(ADA, V1, "wing slipstream", 9))) == {"both", "one", "shared"}
    assert ids(index.matching(ADA, V1, "wing", 9, {"lang": ["en"]})) == ["shared"]
    assert ids(index.matching(ADA, V1, "the of and", 9)) == []
    index.delete(ADA, "doc")
    assert ids(index.matching(ADA, V1, "wing slipstream", 9)) == ["shared"]


@pytest.mark.parametrize("query", ['"', "wings OR *", "text:(", "NEAR(a b)", "-wings", "\x00", "' OR 1=1", "a:b^c", ""])
def test_a_query_in_words_is_never_read_as_a_language(index: Index, query: str) -> None:
    if index.has_words:
        index.upsert(ADA, V1, [entry("a", text="wings")])
        assert len(index.matching(ADA, V1, query, 5)) <= 1


def test_reads_and_writes_of_many_threads_do_not_disturb_each_other(index: Index) -> None:
    index.upsert(ADA, V1, [entry("fixed", axis(1))])
    failures: list[BaseException] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return threading.Thread(target=run)

    def write(mark: str) -> None:
        for number in range(5):
            index.upsert(ADA, V1, [entry(f"{mark}{number}{part}", axis(0, 1), document=mark) for part in "xy"])
        index.delete(ADA, mark)

    def read() -> None:
        for _ in range(10):
            hits = index.nearest(ADA, V1, axis(1), 1)
            assert ids(hits) == ["fixed"]

    threads = [guarded(lambda: write("p")), guarded(lambda: write("q")), guarded(read), guarded(read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert index.count(ADA, V1) == 1


QUERIES = 2_000


def test_two_thousand_random_queries_across_users_and_apps_return_nothing_foreign(index: Index) -> None:
    """Users and groups of one name in two apps, libraries, two versions: a query returns its scope's, and all of it."""
    random_ = random.Random(7)  # noqa: S311 - the same queries each time
    scopes = [Scope(app, uid) for app in ("demo", "shop") for uid in ("ada", "ben", f"{GROUP}ada", None)]
    held: dict[tuple[Scope, str], dict[str, Entry]] = {}
    for scope, version in itertools.product(scopes, (V1, V2)):
        mark = f"{scope.app_id}-{(scope.uid or 'lib').replace('~', '_')}-{version}"
        entries = [
            entry(f"{mark}-{n}", axis(*(random_.gauss(0, 1) for _ in range(D))), f"{mark} word{n % 3}", f"doc{n % 2}")
            for n in range(6)
        ]
        index.upsert(scope, version, entries)
        held[scope, version] = {each.id: each for each in entries}
    wall = {app: ScopedIndex(index, app) for app in ("demo", "shop")}
    for _ in range(QUERIES):
        scope, version, library = random_.choice(scopes), random_.choice((V1, V2)), random_.random() < 0.5
        allowed = dict(held[scope, version])
        if library and scope.uid is not None:
            allowed |= held[Scope(scope.app_id), version]
        where = {"document": [random_.choice(("doc0", "doc1"))]} if random_.random() < 0.3 else None
        if index.has_words and random_.random() < 0.3:
            other = random_.choice(scopes)
            words = f"word{random_.randrange(3)} {other.app_id} {other.uid}"
            hits = index.matching(scope, version, words, 50, where, library=library)
        else:
            vector = axis(*(random_.gauss(0, 1) for _ in range(D)))
            hits = index.nearest(scope, version, vector, 50, where, library=library)
            expected = {name for name, each in allowed.items() if where is None or each.document in where["document"]}
            assert set(ids(hits)) == expected
        assert all(allowed.get(hit.entry.id) == hit.entry for hit in hits)
        own = {owner_of(scope), LIBRARY} if library else {owner_of(scope)}
        assert {(h.app_id, h.version) for h in hits} <= {(scope.app_id, version)}
        assert {h.owner for h in hits} <= own
    with pytest.raises(FirelaunchError):
        wall["demo"].nearest(SHOP_ADA, V1, axis(1), 5)
