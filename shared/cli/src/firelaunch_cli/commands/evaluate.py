"""Implement ``firelaunch eval``: measure search or check answers, and compare the result with an older report."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import click
from firelaunch.errors import FirelaunchError, ModelError, SettingsError
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.types import Message
from firelaunch.scope import Scope
from firelaunch.services.build import build, build_store
from firelaunch.services.build_search import named_embedder, scratch_index, wanted_version
from firelaunch.settings.app import MODEL_KEYS, Settings

from ..evals.judge import ANSWERS, Judge, agreement, labelled_answers
from ..evals.ratings import questions_of_ratings, ratings
from ..evals.report import as_html, as_junit, as_text
from ..evals.retrieval import CollectionError, Progress, Subject, evaluate, load, regressions, shortfalls
from .apps import app_around, app_folder, env_option, load_settings, take_env_file, where
from .evaluate_answers import evaluate_answers
from .progress import Count

__all__ = ["command"]


@click.command("eval")
@click.argument("folder", type=click.Path(path_type=Path), default=".", metavar="[DIR]")
@click.option("--json", "json_out", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@click.option("--html", "html_out", type=click.Path(dir_okay=False, path_type=Path), help="Write it as a page.")
@click.option(
    "--embedder",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="none, local, openai or openai:MODEL (OPENAI_API_KEY, OPENAI_BASE_URL); auto is local where it is installed.",
)
@click.option(
    "--app",
    metavar="APP",
    help="Measure a collection with this app's [index] and [search]: its backend, language, chunks and reranker.",
)
@click.option(
    "--judge",
    metavar="MODEL",
    help="Have the app's model (chat, cheap or a name) judge whether each answer says only what its passages say.",
)
@click.option(
    "--compare", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An older report; exit 1 if worse."
)
@click.option("--threshold", default=0.01, show_default=True, help="How much lower a metric may be than it was.")
@click.option(
    "--min",
    "least",
    multiple=True,
    metavar="FIGURE=VALUE",
    help="Exit with 1 if a figure is lower, such as passed=0.9 or hybrid.ndcg@10=0.5; may be repeated.",
)
@click.option("--repeats", default=1, show_default=True, type=click.IntRange(1, 100), help="How often to ask an app.")
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the questions and gates as JUnit's XML."
)
@click.option("--from-ratings", is_flag=True, help="Print questions made from what users rated, and measure nothing.")
@click.option("--with-content", is_flag=True, help="With --from-ratings: with the users' texts.")
@env_option
def command(
    folder: Path,
    json_out: Path | None,
    html_out: Path | None,
    embedder: str,
    app: str | None,
    judge: str | None,
    compare: Path | None,
    threshold: float,
    least: tuple[str, ...],
    repeats: int,
    junit: Path | None,
    from_ratings: bool,
    with_content: bool,
) -> None:
    """Measure search on DIR, a collection in BEIR's format, by words, by vectors and by both, or an app's answers.

    If DIR is an app, or left out in an app's folder, the app is started with separate data and asked the questions of
    its evals/questions.toml. Each document of a collection is indexed as one passage. Exits with 1 if --compare shows a
    regression or a figure is below --min, and with 2 if the input is wrong.

    With --judge, a model of the app's judges the answers, which costs a call for each. If DIR holds labelled answers
    (answers.jsonl), that judge is measured on them: --app names the app whose model it is.

    With --app, a collection is indexed as the app would: in its own index, for an invented user, and then removed.
    FIRELAUNCH_MODE chooses which index that is: of this machine, the emulator's or the deployed app's.

    --from-ratings reads the app's database, which the settings and the environment choose as for firelaunch data.
    """
    folder = _folder(folder)
    if with_content and not from_ratings:
        raise click.UsageError("--with-content goes with --from-ratings.")
    if not math.isfinite(threshold):  # no figure is lower by more than "nan", so it would find no regression
        raise click.UsageError("--threshold is a number, such as 0.01.")
    try:
        if from_ratings:
            _print_ratings(folder, contents=with_content)
            return
        older, gates = _read(compare) if compare else None, dict(map(_gate, least))
        with tempfile.TemporaryDirectory() as scratch:
            report = _report(folder, Path(scratch), embedder, app, judge, repeats)
        if gates:
            report["below"] = shortfalls(report, gates)
    except (CollectionError, SettingsError) as error:
        raise _WrongInput(str(error)) from None
    except FirelaunchError as error:
        raise click.ClickException(str(error)) from None
    if older is not None:
        report["compared"] = {"with": str(compare), "regressions": regressions(report, older, threshold)}
    _write(report, older, json_out, html_out, junit)
    click.echo(as_text(report, older))
    if report.get("compared", {}).get("regressions") or report.get("below"):
        sys.exit(1)


def _report(
    folder: Path, scratch: Path, embedder: str, app: str | None, judge: str | None, repeats: int
) -> dict[str, Any]:
    if (folder / "firelaunch.toml").is_file():
        if judge is None:
            return evaluate_answers(folder, scratch, _progress(), repeats)
        with _judge(folder, judge, scratch / "judge") as judging:
            return evaluate_answers(folder, scratch, _progress(), repeats, judging)
    if (folder / ANSWERS).is_file():
        if app is None or judge is None:
            raise CollectionError(f"{folder} holds labelled answers: --app names an app, and --judge a model of it.")
        with _judge(app_folder(app), judge, scratch) as judging:
            return agreement(folder.resolve().name, labelled_answers(folder / ANSWERS), judging, _progress())
    if judge is not None:
        raise CollectionError(f"--judge: {folder} is a collection, which has no answers. Name an app.")
    if app is not None and embedder != "auto":
        raise CollectionError("--embedder: with --app, the app's [index] names the embedding model.")
    if app is not None:
        return _app_search_report(folder, app_folder(app), scratch)
    return _search_report(folder, scratch, embedder)


def _write(
    report: Mapping[str, Any],
    older: Mapping[str, Any] | None,
    json_out: Path | None,
    html_out: Path | None,
    junit: Path | None,
) -> None:
    outputs = (
        (json_out, json.dumps(report, indent=2) + "\n"),
        (html_out, as_html(report, older)),
        (junit, as_junit(report)),
    )
    for path, text in outputs:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _gate(text: str) -> tuple[str, float]:
    """Return the figure and its least value in ``FIGURE=VALUE``."""
    figure, _, text_of_value = text.rpartition("=")
    try:
        value = float(text_of_value)
    except ValueError:
        value = math.nan
    if not figure or not math.isfinite(value):  # nothing is below "nan", so it would gate nothing
        raise CollectionError(f"--min {text}: not FIGURE=VALUE, such as passed=0.9.")
    return figure, value


def _print_ratings(folder: Path, *, contents: bool) -> None:
    if not (folder / "firelaunch.toml").is_file():
        raise CollectionError(f"{folder} is no app: --from-ratings reads an app's ratings.")
    settings = load_settings(str(folder), unused={*MODEL_KEYS})
    store = build_store(settings)
    try:
        questions, count = questions_of_ratings(ratings(store, Scope(settings.app.id), contents=contents))
    finally:
        store.close()
    click.echo(questions, nl=False)
    click.echo(f"{count:,} ratings of {settings.app.id} in {where(settings)}.", err=True)


def _folder(given: Path) -> Path:
    """Return the folder to evaluate: an app by its id, the app around the current folder, or ``given`` itself."""
    around = app_around(Path.cwd())
    if given == Path() and around is not None:
        return around
    if given.is_dir():
        return given
    try:
        return app_folder(str(given))
    except click.ClickException as error:
        raise _WrongInput(f"{given} is no folder. {error.message}") from None


def _search_report(folder: Path, scratch: Path, embedder: str) -> dict[str, Any]:
    collection = load(folder)
    index = scratch_index(scratch, "eval")
    try:
        return evaluate(collection, Subject(index, named_embedder(embedder, os.environ)), _progress())
    finally:
        index.close()


def _app_search_report(folder: Path, app: Path, scratch: Path) -> dict[str, Any]:
    """Measure a collection in the index that the app's settings and the environment name."""
    collection = load(folder)
    take_env_file(app)
    settings = Settings.load(app / "firelaunch.toml", {**os.environ, "FIRELAUNCH_DATA": str(scratch)})
    services = build(settings)
    try:
        version = wanted_version(settings)
        engine = services.documents.engine(version)
        subject = Subject(
            engine.index,
            engine.embedder,
            Scope(settings.app.id, f"eval-{token_hex(8)}"),
            version.id,
            version.chunking,
            engine.retriever,
            settings.search.candidates,
            engine.cost,
            {"app": settings.app.id, "backend": version.backend, "language": version.language},
        )
        return evaluate(collection, subject, _progress())
    finally:
        services.store.close()


@contextmanager
def _judge(app: Path, model: str, scratch: Path) -> Iterator[Judge]:
    """Yield a model of the app's as a judge. Its calls are metered in a database of their own."""
    take_env_file(app)
    environ = {**os.environ, "FIRELAUNCH_MODE": "embedded", "FIRELAUNCH_DATA": str(scratch)}
    settings = Settings.load(app / "firelaunch.toml", environ)
    if settings.provider == "offline":
        raise CollectionError("--judge: the offline model reads nothing. Set OPENAI_API_KEY or OPENAI_BASE_URL.")
    services, numbers = build(settings), itertools.count()

    def ask(messages: Sequence[Message], most: int) -> tuple[str, int]:
        # Each call has its own user, so that no plan's limits get in the way.
        scope = Scope(settings.app.id, f"judge-{next(numbers)}")
        try:
            text = services.llm.complete(
                messages, scope=scope, model=model, purpose="judge", max_output_tokens=most, reuse="never"
            ).data
        except ModelError as error:
            text = f"({error.code})"  # which is no verdict; what the call cost is paid
        day = services.store.get(scope.usage(services.metering.today()))
        return text, 0 if day is None else int(day.data["cost_micro_usd"])

    try:
        yield Judge(ask, _model_named(services.gateway, model))
    finally:
        services.store.close()


def _model_named(gateway: Gateway, model: str) -> str:
    try:
        return gateway.model_named(model)
    except ValueError as error:
        raise CollectionError(f"--judge: {error}") from None


class _WrongInput(click.ClickException):
    exit_code = 2


def _read(path: Path) -> Mapping[str, Any]:
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
        if {"collection", "modes"} <= set(report):
            return dict(report)
    except (OSError, ValueError, TypeError):
        pass
    raise CollectionError(f"{path} is no report of firelaunch eval --json.")


def _progress() -> Progress:
    """Return a function that shows a count for each part of the work."""
    counts: dict[str, Count] = {}

    def show(what: str, done: int, total: int) -> None:
        counts.setdefault(what, Count(what, total))(done)

    return show
