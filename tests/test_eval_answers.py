"""firelaunch eval on an app: its answers are asked for, checked, and compared with an older report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from firelaunch_cli.commands import main
from firelaunch_cli.evals.answers import CheckedAnswer, EvalQuestion, Questions, check_answers, load_questions
from firelaunch_cli.evals.retrieval import CollectionError
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
    assert "failed: What does the warranty cover? (contains)" in second.output
    assert evaluated(app, "--compare", before, "--threshold", "0.9").exit_code == 0


def test_questions_that_check_nothing_or_name_no_document_are_told_with_their_place(app: Path) -> None:
    path = app / "evals" / "questions.toml"
    for text, said in (
        ('[[question]]\nask = "a"\n', "question 1: nothing is checked"),
        ('[[question]]\nask = "a"\nmust_cite = ["no.md"]\n', "no 'no.md'"),
        ('[[question]]\nask = "a"\nmust_refuse = true\nmust_cite = ["returns.md"]\n', "can cite nothing"),
        ('[[question]]\nask = "a"\nmust_contian = ["b"]\n', "Extra inputs"),
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
