"""``firelaunch eval``: its figures are the field's, its input is checked, a regression ends it."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from firelaunch.rag.embed.base import Embedded, Embedder
from firelaunch.services.build_search import scratch_index
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.embeddings import OpenAIEmbeddingServer, embedding
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.models import ModelServer, Reply
from firelaunch_cli.commands import main
from firelaunch_cli.evals.report import as_html, as_text
from firelaunch_cli.evals.retrieval import CollectionError, Subject, evaluate, load, mrr, ndcg, recall, regressions
from hypothesis import given
from hypothesis import strategies as st

BESIDE_THE_REPO = Path(__file__).resolve().parents[5] / "shared" / "data" / "cranfield"
CRANFIELD = Path(os.environ.get("CRANFIELD", BESIDE_THE_REPO))


def collection(folder: Path, documents: int = 30) -> Path:
    random_ = random.Random(1)  # noqa: S311 - the same collection each time
    words = [f"topic{n}" for n in range(documents)]
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": f"/odd id {n}", "title": f"On {word}", "text": " ".join(random_.choices(words, k=5) + [word] * 3)}
        for n, word in enumerate(words)
    ]
    corpus.append({"_id": "empty", "title": "", "text": ""})
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)) + "\n\n")
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": str(n), "text": f"what is {word}"}) for n, word in enumerate(words))
    )
    lines = ["query-id\tcorpus-id\tscore", *(f"{n}\t/odd id {n}\t2" for n in range(documents)), "999\t/odd id 1\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines))
    return folder


def run(*arguments: str | Path, **environ: str) -> Any:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)], env=environ)


def test_ndcg_recall_and_mrr_are_the_fields_own() -> None:
    grades = {"a": 3, "b": 2, "c": 0, "d": 1}
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["x", "a", "c", "b"], grades) == pytest.approx((3 / math.log2(3) + 2 / math.log2(5)) / ideal)
    assert ndcg(["a", "b", "d"], grades) == 1.0
    assert ndcg(["x"] * 10 + ["a"], grades) == 0.0
    assert recall(["x", "a", "c", "b"], grades) == pytest.approx(2 / 3)
    assert recall(["x", "a", "b"], grades, 2) == pytest.approx(1 / 3)
    assert mrr(["c", "x", "b"], grades) == pytest.approx(1 / 3)
    assert mrr(["c"], grades) == 0.0


@given(st.permutations(["a", "b", "c", "d"]), st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any))
def test_no_ranking_scores_above_the_ideal_one(ranking: list[str], grades: list[int]) -> None:
    judged = dict(zip("abcd", grades, strict=True))
    best = sorted(judged, key=lambda name: -judged[name])
    assert 0.0 <= ndcg(ranking, judged) <= ndcg(best, judged) + 1e-9
    assert ndcg(best, judged) == pytest.approx(1.0)


class Model:
    """Texts that share words are near each other."""

    id, batch_texts, batch_tokens = "words", 100, 10_000

    def request(self, texts: Sequence[str], **_: Any) -> Embedded:
        return Embedded(np.array([embedding(text, 256) for text in texts], np.float32), len(texts))


def test_every_mode_is_measured_and_documents_keep_their_own_ids(tmp_path: Path) -> None:
    index = scratch_index(tmp_path / "index", "eval")
    report = evaluate(load(collection(tmp_path / "c")), Subject(index, Embedder(Model())))
    index.close()
    assert (report["documents"], report["questions"], report["embedder"]) == (31, 30, "words")
    assert list(report["modes"]) == ["lexical", "vector", "hybrid"]
    for row in report["modes"].values():
        assert set(row) == {"ndcg@10", "recall@100", "mrr", "best@50", "p50_ms", "p95_ms"}
        assert row["ndcg@10"] > 0.8
    page = as_html(report)
    table = as_text(report)
    assert "\nbest@50: ndcg@10 of the best order of the first 50" in table
    quality = [name for name in row if not name.endswith("_ms")]
    assert all(f"\n{name}: " in table for name in quality), "each figure that needs it is explained"
    assert page.count("<rect") == 18
    assert "On topic" not in page


def test_the_command_prints_a_table_and_writes_json_and_html(tmp_path: Path) -> None:
    out = tmp_path / "build" / "eval.json"
    done = run(collection(tmp_path / "c"), "--embedder", "none", "--json", out, "--html", tmp_path / "eval.html")
    assert done.exit_code == 0, done.output
    assert "lexical" in done.output
    assert "only words were searched" in done.output
    assert json.loads(out.read_text())["modes"]["lexical"]["mrr"] == 1.0
    assert "<svg" in (tmp_path / "eval.html").read_text()


def test_a_compatible_servers_embeddings_are_measured(tmp_path: Path) -> None:
    with OpenAIEmbeddingServer(dimensions=64) as server:
        done = run(collection(tmp_path / "c"), "--embedder", "openai:some", OPENAI_BASE_URL=server.base_url)
    assert done.exit_code == 0, done.output
    assert "hybrid" in done.output
    assert {body["model"] for _, body in server.requests} == {"some"}


def test_a_regression_beyond_the_threshold_ends_with_1_and_is_named(tmp_path: Path) -> None:
    folder, out = collection(tmp_path / "c"), tmp_path / "old.json"
    assert run(folder, "--embedder", "none", "--json", out).exit_code == 0
    assert run(folder, "--embedder", "none", "--compare", out).exit_code == 0
    old = json.loads(out.read_text())
    old["modes"]["lexical"]["ndcg@10"] += 0.02
    out.write_text(json.dumps(old))
    worse = run(folder, "--embedder", "none", "--compare", out, "--json", tmp_path / "new.json")
    assert worse.exit_code == 1
    assert "worse: lexical: ndcg@10" in worse.output
    assert len(json.loads((tmp_path / "new.json").read_text())["compared"]["regressions"]) == 1
    assert run(folder, "--embedder", "none", "--compare", out, "--threshold", "0.03").exit_code == 0


def test_a_mode_that_is_gone_and_another_collection_are_regressions() -> None:
    row = {"ndcg@10": 0.5, "recall@100": 0.5, "mrr": 0.5}
    old = {"collection": "c", "modes": {"lexical": row, "hybrid": row}}
    assert regressions({"collection": "c", "modes": {"lexical": row}}, old, 0.0) == [
        "hybrid: was measured then, and is not now"
    ]
    assert len(regressions({"collection": "d", "modes": {}}, old, 0.0)) == 1
    better = {"collection": "c", "modes": {m: dict.fromkeys(row, 0.9) for m in ("lexical", "hybrid")}}
    assert regressions(better, old, 0.0) == []


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("corpus.jsonl", None, "cannot be read"),
        ("corpus.jsonl", "{}", "line 1"),
        ("corpus.jsonl", "[1]\n", "line 1"),
        ("corpus.jsonl", '{"_id": "1"}\nnot json', "line 2"),
        ("queries.jsonl", "", "no judgments"),
        ("qrels/test.tsv", "a b c", "tabs"),
        ("qrels/test.tsv", "0\t/odd id 0\tmany", "line 1"),
        ("qrels/test.tsv", "0\t/odd id 0\t0", "no judgments"),
    ],
)
def test_a_folder_that_is_no_collection_ends_with_2_and_says_why(
    tmp_path: Path, file: str, text: str | None, says: str
) -> None:
    folder = collection(tmp_path / "c")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    done = run(folder, "--embedder", "none")
    assert (done.exit_code, says in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--embedder", "nonsense"], "no embedder"), (["--embedder", "openai"], "OPENAI_API_KEY")],
)
def test_an_embedder_that_cannot_be_had_ends_with_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = run(collection(tmp_path / "c"), *arguments, OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_an_older_report_that_is_none_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("[]")
    assert run(collection(tmp_path / "c"), "--compare", tmp_path / "old.json").exit_code == 2


def test_a_title_may_hold_markup_and_stays_text() -> None:
    report = {
        "collection": "<script>",
        "documents": 1,
        "questions": 1,
        "embedder": "<b>",
        "indexing_seconds": 1,
        "modes": {"lexical": {"ndcg@10": 0.0, "recall@100": 0.0, "mrr": 0.0, "p50_ms": 0.0, "p95_ms": 0.0}},
    }
    assert "<script>" not in as_html(report)
    assert "<script>" in as_text(report)


@pytest.mark.skipif(not CRANFIELD.exists(), reason="the Cranfield collection is not here (CRANFIELD names its folder)")
def test_words_alone_reach_bm25s_figure_on_cranfield(tmp_path: Path) -> None:
    index = scratch_index(tmp_path, "eval")
    report = evaluate(load(CRANFIELD), Subject(index))
    index.close()
    assert report["modes"]["lexical"]["ndcg@10"] >= 0.532
    assert report["modes"]["lexical"]["recall@100"] >= 0.75


def test_a_collection_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"corpus\.jsonl"):
        load(tmp_path)


FOLLOW_UPS = Path(__file__).resolve().parents[4] / "evals" / "follow_ups"


def test_follow_up_questions_are_found_with_their_conversation_and_not_without(tmp_path: Path) -> None:
    out = tmp_path / "follow_ups.json"
    done = run(FOLLOW_UPS, "--embedder", "none", "--json", out, "--min", "lexical.ndcg@10=0.75")
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["questions"] == 100
    with_chat, alone, rewritten = (
        report["modes"][f"lexical{name}"]["ndcg@10"] for name in ("", " alone", " rewritten")
    )
    assert alone + 0.2 < with_chat < rewritten


def test_a_figure_below_its_least_value_ends_with_1_without_an_older_report(tmp_path: Path) -> None:
    folder, junit = collection(tmp_path / "c"), tmp_path / "junit.xml"
    assert run(folder, "--embedder", "none", "--min", "mrr=1").exit_code == 0
    below = run(folder, "--embedder", "none", "--min", "lexical.mrr=1.01", "--min", "mrr=0.5", "--junit", junit)
    assert below.exit_code == 1
    assert "below: lexical: mrr is 1.0000, and must be 1.01" in below.output
    suite = ElementTree.parse(junit).getroot()  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


@pytest.mark.parametrize("threshold", ["nan", "inf"])
def test_a_threshold_that_no_figure_can_fall_by_is_wrong_input(tmp_path: Path, threshold: str) -> None:
    done = run(collection(tmp_path / "c"), "--embedder", "none", "--threshold", threshold)
    assert (done.exit_code, "--threshold is a number" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("mrr", "FIGURE=VALUE"),
        ("mrr=nan", "FIGURE=VALUE"),
        ("mrr=-inf", "FIGURE=VALUE"),
        ("=1", "FIGURE=VALUE"),
        ("hybrid.mrr=1", "no figure 'hybrid.mrr'"),
    ],
)
def test_a_gate_that_gates_nothing_is_wrong_input(tmp_path: Path, gate: str, says: str) -> None:
    done = run(collection(tmp_path / "c"), "--embedder", "none", "--min", gate)
    assert done.exit_code == 2
    assert says in done.output


def test_a_history_that_is_no_list_of_messages_is_wrong_input(tmp_path: Path) -> None:
    folder = collection(tmp_path / "c")
    (folder / "queries.jsonl").write_text('{"_id": "0", "text": "it?", "history": ["hello"]}')
    done = run(folder, "--embedder", "none")
    assert (done.exit_code, "history of 0" in done.output) == (2, True)


APP = (
    SETTINGS.replace('id = "demo"', 'id = "shop"')
    + """
[index]
embedder = "none"
language = "none"
chunk_tokens = 16
chunk_overlap = 0

[search]
reranker = "cheap"
"""
)
"""Settings whose figures differ from the defaults'."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_app(tmp_path / "shop", APP).parent


def two_documents(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    long = " ".join(["Prices of lamps."] * 40)
    rows = [{"_id": "lamps", "text": f"{long}\n\nReturned lamps are refunded."}, {"_id": "ovens", "text": long}]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    questions = [{"_id": "1", "text": "lamps returned"}, {"_id": "2", "text": "refund"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "qrels" / "test.tsv").write_text("1\tlamps\t1\n2\tlamps\t1\n")
    return folder


def test_a_collection_is_measured_with_an_apps_own_language_chunks_and_reranker(shop: Path, tmp_path: Path) -> None:
    folder, out = two_documents(tmp_path / "c"), tmp_path / "eval.json"
    plain = run(folder, "--embedder", "none", "--json", out)
    assert plain.exit_code == 0, plain.output
    before = json.loads(out.read_text())
    assert (before["passages"], before["modes"]["lexical"]["recall@100"]) == (2, 1.0)
    with ModelServer(Reply(["2, 1"], usage=(1_000, 0, 5))) as models:
        keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": models.base_url}
        done = run(folder, "--app", shop, "--json", out, **keys)
        assert done.exit_code == 0, done.output
        report = json.loads(out.read_text())
        assert len(models.requests) == 1, "one question finds several passages, and none finds the word 'refund'"
    assert (report["app"], report["backend"], report["language"]) == ("shop", "embedded", "none")
    assert report["passages"] > 10
    assert list(report["modes"]) == ["lexical", "lexical reranked"]
    assert report["modes"]["lexical"]["recall@100"] == 0.5, "the app's language has no stems"
    assert report["modes"]["lexical"]["best@50"] == 0.5
    assert report["cost_micro_usd"] > 0
    assert "shop's search (embedded, language none)" in done.output
    assert not (shop / ".firelaunch").exists()


def test_an_embedder_beside_an_app_is_refused(shop: Path, tmp_path: Path) -> None:
    done = run(two_documents(tmp_path / "c"), "--app", shop, "--embedder", "none")
    assert (done.exit_code, "[index] names the embedding model" in done.output) == (2, True), done.output


def test_a_reranker_that_fails_is_told_and_leaves_the_searchs_order(shop: Path, tmp_path: Path) -> None:
    with ModelServer(Reply(["I cannot."])) as models:
        keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": models.base_url}
        done = run(two_documents(tmp_path / "c"), "--app", shop, **keys)
    assert done.exit_code == 0, done.output
    assert "The reranker failed 1 times" in done.output


def test_a_collection_is_measured_in_firestore_and_leaves_nothing_there(
    shop: Path, firestore_emulator: Emulator, firestore_project: str, tmp_path: Path
) -> None:
    environ = {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": firestore_emulator.host}
    environ["GOOGLE_CLOUD_PROJECT"] = firestore_project
    out = tmp_path / "eval.json"
    done = run(two_documents(tmp_path / "c"), "--app", shop, "--json", out, **environ)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert (report["backend"], report["modes"]["lexical"]["recall@100"]) == ("firestore", 0.5)
    client = firestore_emulator.client(firestore_project)
    assert not [found.id for found in client.collection_group("chunks").stream()]
    assert not [found.id for found in client.collection_group("postings").stream()]
