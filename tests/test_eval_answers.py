"""firelaunch eval on an app: its answers are asked for, checked, and compared with an older report."""

from __future__ import annotations

import itertools
import json
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch_cli.commands import main
from firelaunch_cli.evals.answers import (
    CheckedAnswer,
    EvalQuestion,
    FoundPassage,
    Questions,
    check_answers,
    load_questions,
)
from firelaunch_cli.evals.report import as_junit
from firelaunch_cli.evals.retrieval import CollectionError
from hypothesis import given
from hypothesis import strategies as st
from support import copy_template


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return copy_template(tmp_path / "app")


def evaluated(app: Path, *options: str | Path) -> Result:
    return CliRunner().invoke(main, ["eval", str(app), *map(str, options)])


def test_the_templates_questions_pass_offline_and_a_worse_answer_is_told_from_the_report_before(
    app: Path, tmp_path: Path
) -> None:
    before, page = tmp_path / "before.json", tmp_path / "page.html"
    first = evaluated(app, "--json", before, "--html", page)
    assert first.exit_code == 0, first.output
    report = json.loads(before.read_text())
    assert report["modes"]["answers"]["passed"] == 1.0
    assert report["failed"] == []
    assert "<svg" in page.read_text()
    assert not (app / ".firelaunch").exists(), "the app's own data are left alone"
    (app / "evals" / "documents" / "warranty.md").write_text("# Warranty\n\nThe warranty covers nothing any more.\n")
    second = evaluated(app, "--compare", before)
    assert second.exit_code == 1
    assert "worse: answers: contains" in second.output
    assert "failed: What does the warranty cover? (contains; retrieval)" in second.output
    assert evaluated(app, "--compare", before, "--threshold", "0.9").exit_code == 0


def test_questions_that_check_nothing_or_name_no_document_are_told_with_their_place(app: Path) -> None:
    path = app / "evals" / "questions.toml"
    for text, said in (
        ('[[question]]\nask = "a"\n', "question 1: nothing is checked"),
        ('[[question]]\nask = "a"\nmust_cite = ["no.md"]\n', "no 'no.md'"),
        ('[[question]]\nask = "a"\nmust_refuse = true\nmust_cite = ["returns.md"]\n', "can cite nothing"),
        ('[[question]]\nask = "a"\nmust_contian = ["b"]\n', "question 1 must_contian: Extra inputs"),
        ("[[question]\n", "cannot be read"),
        ("", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(CollectionError, match=said):
            load_questions(app / "evals")
        assert evaluated(app).exit_code == 2


@pytest.mark.parametrize(
    ("question", "answer", "passes"),
    [
        (EvalQuestion(ask="q", must_contain=["Thirty  days"]), CheckedAnswer("It is thirty\ndays.", ()), True),
        (EvalQuestion(ask="q", must_contain=["thirty", "days"]), CheckedAnswer("It is thirty.", ()), False),
        (EvalQuestion(ask="q", must_cite=["a.md"]), CheckedAnswer("So it is.", ["b.md", "a.md"]), True),
        (EvalQuestion(ask="q", must_cite=["a.md", "b.md"]), CheckedAnswer("So it is.", ["b.md"]), False),
        (EvalQuestion(ask="q", must_refuse=True), CheckedAnswer("I don\u2019t know that.", ()), True),
        (EvalQuestion(ask="q", must_refuse=True), CheckedAnswer("I do not know that [1].", ["a.md"]), False),
        (EvalQuestion(ask="q", must_refuse=True), CheckedAnswer("Picasso did.", ()), False),
        (EvalQuestion(ask="q", must_refuse=True), CheckedAnswer("Da muss ich passen.", ()), True),
    ],
)
def test_an_answer_passes_when_it_says_cites_or_refuses_what_it_must(
    question: EvalQuestion, answer: CheckedAnswer, passes: bool
) -> None:
    wanted = Questions(question=[question], refusals=["muss ich passen"])
    report = check_answers("app", "model", wanted, 0, lambda _: answer, lambda *_: None)
    assert report["modes"]["answers"]["passed"] == float(passes)
    assert bool(report["failed"]) != passes


def test_an_app_is_measured_by_its_name_too_and_what_is_no_app_is_named(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo" / "apps").mkdir(parents=True)
    (tmp_path / "repo" / "apps" / "shop").symlink_to(app, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "repo")
    assert evaluated(Path("shop")).exit_code == 0
    other = evaluated(Path("shoe"))
    assert other.exit_code == 2
    assert "shoe is no folder. There is no app 'shoe' in apps/. There are: shop." in other.output


CONVERSATION = """
[[question]]
before = ["How long may I return a lamp?"]
ask = "Who pays for the parcel?"
must_contain = ["prepaid"]
"""


def test_a_question_follows_others_in_its_chat_and_each_answer_is_judged_at_a_cost_that_is_told(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (app / "evals" / "questions.toml").write_text(CONVERSATION)
    out = tmp_path / "report.json"
    with ModelServer(Reply(["Nobody.", "\nVerdict: unfaithful"], usage=(100, 0, 9))) as models:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", models.base_url)
        done = evaluated(app, "--judge", "chat", "--json", out)
        asked = [request["messages"] for request in models.requests]
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert len(asked) == 3, "two messages, and one verdict"
    said = "\n".join(message["content"] for message in asked[1])
    assert "How long may I return a lamp?" in said
    assert "Nobody." in said
    assert "prepaid" in asked[2][-1]["content"], "the judge reads the passages"
    assert report["modes"]["answers"]["faithful"] == 0.0
    assert report["rows"][0]["fault"] == "generation", "the passages have it"
    assert report["cost_micro_usd"] > 0
    assert "unfaithful: Who pays for the parcel? (unfaithful): Nobody." in done.output


@pytest.fixture
def rated(app: Path) -> str:
    """An app with one answer rated up and one rated down; the second's request."""
    flask, services = App("rated"), build(Settings.load(app / "firelaunch.toml", {}))
    init_app(flask, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    ada, message = sign_in(flask, "ada"), {}
    down = {"value": "down", "reason": "incorrect", "text": 'No.\n[[question]]\nask = "x"'}
    for text, rating in (("What is a lamp?", {"value": "up"}), ('Was "it"\nred \U0001f600\x7f?', down)):
        chat = ada.new_chat()
        message = ada.send(chat, text).get_json()["message"]
        assert ada.put(f"/v1/chats/{chat}/messages/{message['id']}/rating", rating).status_code == 200
    services.store.close()
    return str(message["request_id"])


def test_ratings_become_questions_with_ids_alone_unless_their_texts_are_asked_for(app: Path, rated: str) -> None:
    result = evaluated(app, "--from-ratings")
    assert result.exit_code == 0, result.output
    assert not [word for word in ("lamp", "red", 'ask = "x"') if word in result.stdout]
    questions = tomllib.loads(result.stdout)["question"]
    assert [question["ask"] for question in questions] == ["", ""]
    assert questions[0]["request"] == rated
    (app / "evals" / "questions.toml").write_text(result.stdout)
    assert "question 1: ask is empty" in evaluated(app).output


def test_questions_with_the_users_texts_are_asked_anew_and_their_answers_are_shown_unchecked(
    app: Path, rated: str, tmp_path: Path
) -> None:
    result = evaluated(app, "--from-ratings", "--with-content")
    assert '# No. [[question]] ask = "x"\n' in result.stdout, "what users write adds no question"
    questions = tomllib.loads(result.stdout)["question"]
    assert [question["ask"] for question in questions] == ['Was "it"\nred \U0001f600\x7f?', "What is a lamp?"]
    (app / "evals" / "questions.toml").write_text(result.stdout)
    asked = evaluated(app, "--html", tmp_path / "page.html")
    assert asked.exit_code == 0, asked.output
    assert "unchecked: What is a lamp?: " in asked.output
    assert "Not checked" in (tmp_path / "page.html").read_text()


def test_texts_go_with_ratings_and_ratings_with_an_app(app: Path, tmp_path: Path) -> None:
    assert evaluated(app, "--with-content").exit_code == 2
    assert evaluated(tmp_path, "--from-ratings").exit_code == 2


def checked(text: str, *passages: FoundPassage, cited: tuple[str, ...] = (), **checks: Any) -> dict[str, Any]:
    questions = Questions(question=[EvalQuestion(ask="?", **checks)])
    answer = CheckedAnswer(text, cited)
    report = check_answers("demo", "m", questions, 1, lambda _: answer, lambda *_: None, search=lambda _: passages)
    return dict(report["rows"][0])


@pytest.mark.parametrize(
    ("text", "checks", "passes"),
    [
        ("You have 30 days.", {"must_contain": ["30 days"]}, True),
        ("You have 130 days.", {"must_contain": ["30 days"]}, False),
        ("It costs 1.30 days of pay", {"must_contain": ["30 days"]}, False),
        ("Version 2.30", {"must_contain": ["version 2"]}, False),
        ("Version 2.", {"must_contain": ["version 2"]}, True),
        ("You have 130 days.", {"must_not_contain": ["30 days"]}, True),
        ("You have 30 days.", {"must_not_contain": ["30 days"]}, False),
        ("a month", {"any_of": ["30 days", "a month"]}, True),
        ("a year", {"any_of": ["30 days", "a month"]}, False),
        ("Order AB-1234 is late", {"must_match": [r"\b[a-z]{2}-\d{4}\b"]}, True),
        ("Order AB-12345 is late", {"must_match": [r"\b[a-z]{2}-\d{4}\b"]}, False),
        ("It is 1,299.00 euros", {"must_state": [1299]}, True),
        ("Es kostet 1.299,50 Euro", {"must_state": [1299.5]}, True),
        ("It is 11299 euros", {"must_state": [1299]}, False),
        ("3 500 kronor", {"must_state": [3500]}, True),
        ("-", {"must_state": [1]}, False),
    ],
)
def test_an_answer_passes_a_check_exactly_if_it_holds(text: str, checks: dict[str, Any], passes: bool) -> None:
    assert all(checked(text, **checks)["checks"].values()) is passes


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_number_is_stated_exactly_if_it_is_there_however_it_is_grouped(number: int, other: int) -> None:
    for text in (f"{number}", f"{number:,}", f"{number:,}".replace(",", "."), f"{number:,}".replace(",", " ")):
        assert checked(f"about {text} items.", must_state=[number])["checks"] == {"numbers": True}
    stated = checked(f"about {number} items", must_state=[other])["checks"]["numbers"]
    assert stated is (number == other)


def test_a_failed_answer_is_a_fault_of_retrieval_or_of_generation() -> None:
    right, wrong = FoundPassage("returns.md", "You have 30 days."), FoundPassage("warranty.md", "You have 130 days.")
    for passages, fault in (((right, wrong), "generation"), ((wrong,), "retrieval"), ((), "retrieval")):
        assert checked("No.", *passages, must_contain=["30 days"])["fault"] == fault
        assert checked("No.", *passages, must_cite=["returns.md"])["fault"] == fault
        assert checked("No.", *passages, must_state=[30])["fault"] == fault
    assert checked("Yes.", must_refuse=True)["fault"] == "generation"
    assert "fault" not in checked("30 days", must_contain=["30 days"])


def test_repeats_count_each_answer_and_give_an_interval_that_holds_the_share() -> None:
    answers = itertools.cycle(["30 days", "30 days", "no", "30 days"])
    questions = Questions(question=[EvalQuestion(ask=f"{n}?", must_contain=["30 days"]) for n in range(20)])
    report = check_answers(
        "demo", "m", questions, 1, lambda _: CheckedAnswer(next(answers), []), lambda *_: None, repeats=2
    )
    assert report["modes"]["answers"]["passed"] == 0.75
    low, high = report["intervals"]["answers"]["passed"]
    assert low < 0.75 < high
    assert len(report["failed"]) == 10


def test_junit_has_a_case_for_each_question_and_the_failures_say_why() -> None:
    questions = Questions(question=[EvalQuestion(ask=ask, must_contain=["yes"]) for ask in ("a?", "b?\x00")])
    report = check_answers(
        "demo",
        "m",
        questions,
        1,
        lambda asked: CheckedAnswer("yes" if asked.ask == "a?" else "no\x1b", []),
        lambda *_: None,
    )
    suite = ElementTree.fromstring(as_junit(report))  # noqa: S314 - our own
    assert [case.get("name") for case in suite] == ["a?", "b?"]
    assert [failure.get("message") for failure in suite.iter("failure")] == ["contains (retrieval)"]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_a_pattern_that_is_none_is_told(app: Path) -> None:
    (app / "evals" / "questions.toml").write_text('[[question]]\nask = "a"\nmust_match = ["("]\n')
    with pytest.raises(CollectionError, match="no regular expression"):
        load_questions(app / "evals")
