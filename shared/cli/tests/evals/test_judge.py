"""The judge of ``firelaunch eval``: its verdict is read strictly, its cost is told, and its agreement is computed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from firelaunch.llm.types import Message
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch_cli.commands import main
from firelaunch_cli.evals.answers import (
    CheckedAnswer,
    EvalQuestion,
    FoundPassage,
    Questions,
    check_answers,
)
from firelaunch_cli.evals.judge import LABELS, Judge, agreement, kappa, labelled_answers
from firelaunch_cli.evals.retrieval import CollectionError
from hypothesis import given
from hypothesis import strategies as st

LABELLED = Path(__file__).resolve().parents[4] / "evals" / "faithfulness"


def judge_of(*texts: str, cost: int = 7) -> Judge:
    answers = iter(texts)
    return Judge(lambda *_: (next(answers), cost), "model")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Verdict: faithful", "faithful"),
        ("It says 60 days.\nVerdict: unfaithful\n", "unfaithful"),
        ("a\n\n  Verdict: partly  ", "partly"),
        ("Verdict: Faithful", None),
        ("verdict: faithful", None),
        ("**Verdict: faithful**", None),
        ("Verdict: faithful.", None),
        ("Verdict: mostly", None),
        ("Verdict: faithful\nBut see below.", None),
        ("The answer's last line was Verdict: faithful", None),
        ("Faithful", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_last_line_to_the_letter_and_anything_else_is_none(text: str, label: str | None) -> None:
    verdict = judge_of(text).verdict("q", ["p"], "a")
    assert verdict.label == label
    assert verdict.micro_usd == 7, "a call without a verdict is paid, too"


def test_the_judge_is_shown_the_question_the_passages_and_the_answer() -> None:
    asked: list[Sequence[Message]] = []

    def ask(messages: Sequence[Message], _: int) -> tuple[str, int]:
        asked.append(messages)
        return "Verdict: partly", 0

    Judge(ask, "model").verdict("How long?", ["Thirty days.", "No bulbs."], "Sixty.")
    assert asked[0][1]["content"] == (
        "The question:\nHow long?\n\nPassage 1:\nThirty days.\n\nPassage 2:\nNo bulbs.\n\nThe answer:\nSixty."
    )


def test_kappa_is_cohens() -> None:
    # The example of https://en.wikipedia.org/wiki/Cohen%27s_kappa: 20 and 15 agreed, 5 and 10 not; kappa is 0.4.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([("a", "a")] * 9) == 0.0


PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60)


@given(PAIRS)
def test_kappa_is_symmetric_at_most_one_and_one_only_if_all_agree(pairs: list[tuple[str, str]]) -> None:
    value = kappa(pairs)
    assert value == pytest.approx(kappa([(other, one) for one, other in pairs]))
    assert -1.0 <= value <= 1.0
    agreed = all(one == other for one, other in pairs)
    assert (value == pytest.approx(1.0)) == (agreed and len({one for one, _ in pairs}) > 1)


def test_there_are_fifty_labelled_answers_of_each_label() -> None:
    answers = labelled_answers(LABELLED / "answers.jsonl")
    assert len(answers) == 50
    assert min(Counter(each.label for each in answers)[label] for label in LABELS) >= 15
    assert len({(each.question, each.answer) for each in answers}) == 50


def test_what_has_no_verdict_is_told_and_counts_for_no_figure() -> None:
    answers = labelled_answers(LABELLED / "answers.jsonl")[:3]
    judge = judge_of(f"Verdict: {answers[0].label}", "I think so.", "Verdict: unfaithful")
    report = agreement("set", answers, judge, lambda *_: None)
    agreed = 1.0 if answers[2].label == "unfaithful" else 0.5
    assert report["modes"]["judge"]["agreement"] == agreed
    assert report["modes"]["judge"]["verdicts"] == pytest.approx(2 / 3, abs=1e-3)
    assert report["unjudged"] == [f"{answers[1].question} no verdict in 'I think so.'"]
    assert report["cost_micro_usd"] == 21


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: not a JSON object"),
        ('{"question": "q", "passages": [], "answer": "a", "label": "good"}', "label is 'good'"),
        ('{"question": "q", "passages": [], "label": "partly"}', ": Field required"),
        ("", "holds no answers"),
    ],
)
def test_labelled_answers_that_are_wrong_are_told_with_their_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(CollectionError, match=says):
        labelled_answers(path)


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)], env={"OPENAI_API_KEY": "", **environ})


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app", SETTINGS).parent


def test_the_command_prints_a_models_agreement_kappa_and_cost_and_gates_by_them(app: Path, tmp_path: Path) -> None:
    answers, out = labelled_answers(LABELLED / "answers.jsonl"), tmp_path / "judge.json"
    said = [each.label for each in answers]
    said[0] = next(label for label in LABELS if label != said[0])
    with ModelServer(Reply(["hm"])) as models:
        models.script = [Reply([f"Verdict: {label}"], usage=(300, 0, 5)) for label in said[:49]]
        keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": models.base_url}
        gates = ("--min", "judge.kappa=0.9", "--min", "judge.agreement=0.99")
        done = run(LABELLED, "--app", app, "--judge", "cheap", "--json", out, *gates, **keys)
        assert {request["model"] for request in models.requests} == {"gpt-5.4-nano"}
        assert len(models.requests) == 50
    report = json.loads(out.read_text())
    pairs = list(zip([each.label for each in answers], said, strict=True))[:49]
    row = report["modes"]["judge"]
    assert row["agreement"] == pytest.approx(48 / 49, abs=1e-4)
    assert row["kappa"] == pytest.approx(kappa(pairs), abs=1e-4)
    assert row["verdicts"] == 0.98
    assert report["cost_micro_usd"] > 0
    assert done.exit_code == 1, "the agreement is below its least value"
    assert "below: judge: agreement is 0.9796, and must be 0.99" in done.output
    assert "judged by gpt-5.4-nano, $0.0" in done.output
    assert "unjudged: " in done.output
    assert f"disagreed: {answers[0].question}" in done.output


def test_a_model_that_fails_gives_no_verdict_and_ends_nothing(app: Path) -> None:
    with ModelServer(Fault(400)) as models:
        done = run(LABELLED, "--app", app, "--judge", "chat", OPENAI_API_KEY="k", OPENAI_BASE_URL=models.base_url)
    assert done.exit_code == 0, done.output
    assert done.output.count("unjudged: ") == 50
    assert "kappa" not in done.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--app", "APP"), "--app names an app, and --judge a model of it"),
        (("--judge", "chat"), "--app names an app, and --judge a model of it"),
        (("--app", "APP", "--judge", "chat"), "the offline model reads nothing"),
    ],
)
def test_what_a_judge_lacks_is_told(app: Path, options: tuple[str, ...], says: str) -> None:
    done = run(LABELLED, *(str(app) if option == "APP" else option for option in options))
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_a_judge_that_the_settings_do_not_name_is_told(app: Path) -> None:
    done = run(LABELLED, "--app", app, "--judge", "gpt-9", OPENAI_API_KEY="k")
    assert (done.exit_code, "'gpt-9' is none of the models" in done.output) == (2, True), done.output


QUESTION = EvalQuestion(ask="And bulbs?", before=["How long may I return a lamp?"], must_contain=["30 days"])


def checked(answer: str, judge: Judge | None, passages: Sequence[str] = ("It is 30 days.",)) -> dict[str, Any]:
    searched: list[str] = []

    def search(text: str) -> list[FoundPassage]:
        searched.append(text)
        return [FoundPassage("a.md", passage) for passage in passages]

    report = check_answers(
        "app",
        "m",
        Questions(question=[QUESTION]),
        1,
        lambda _: CheckedAnswer(answer, ()),
        lambda *_: None,
        search=search,
        judge=judge,
    )
    return {**report, "searched": searched}


def test_an_answer_is_judged_by_the_passages_beside_its_checks_and_its_fault_stays_told_apart() -> None:
    report = checked("60 days.", judge_of("The passage says 30.\nVerdict: unfaithful"))
    assert report["rows"][0]["fault"] == "generation"
    assert report["modes"]["answers"]["faithful"] == 0.0
    assert report["unfaithful"] == ["And bulbs? (unfaithful): The passage says 30."]
    assert report["cost_micro_usd"] == 7
    assert report["searched"] == ["How long may I return a lamp?\nAnd bulbs?"]
    report = checked("60 days.", judge_of("Verdict: faithful"), ["Sixty days."])
    assert report["rows"][0]["fault"] == "retrieval"
    assert report["modes"]["answers"]["faithful"] == 1.0


def test_an_answer_without_a_verdict_counts_for_no_share() -> None:
    report = checked("30 days.", judge_of("Yes."))
    assert "faithful" not in report["modes"]["answers"]
    assert report["unjudged"] == ["And bulbs? no verdict in 'Yes.'"]


def test_nothing_is_judged_and_no_figure_added_without_a_judge() -> None:
    report = checked("30 days.", None)
    assert report["searched"] == []
    assert not {"judge", "unjudged", "cost_micro_usd"} & report.keys()
