"""Implement ``firelaunch test-rules``: check whether the cases would notice wrong rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable, RulesError, unsigned_token
from firelaunch.text_file import read_text_file
from rules_tester.cases import CaseError, load_suite
from rules_tester.client import UnexpectedAnswer
from rules_tester.report import AllowListError, as_html, as_json, as_text, load_allow_list, trustworthy
from rules_tester.runner import SuiteFailed, run
from rules_tester.tokens import RulesSyntaxError, line_of

__all__ = ["command"]

_WIDTH = 30


@click.command("test-rules")
@click.argument("rules", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("cases", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "json_out", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@click.option("--html", "html_out", type=click.Path(dir_okay=False, path_type=Path), help="Write it as a page.")
@click.option("--min-score", default=100.0, show_default=True, help="Percent of mutants to be killed; else exit 1.")
@click.option("--allow", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Equivalent mutants, YAML.")
@click.option("--jobs", default=4, show_default=True, type=click.IntRange(1, 32), help="Projects worked on at a time.")
def command(
    rules: Path,
    cases: Path,
    json_out: Path | None,
    html_out: Path | None,
    min_score: float,
    allow: Path | None,
    jobs: int,
) -> None:
    """Run CASES against RULES on the Firestore emulator, then against every small change (mutant) of the rules.

    A change that no case notices survives, and shows what the cases do not test. Exits with 1 below --min-score or if
    the score is not complete (nothing to change, or a change to an expression that does not compile), and with 2 if the
    input is wrong or a case fails on the unchanged rules.
    """
    try:
        suite = load_suite(cases)
        allow_list = load_allow_list(allow) if allow else {}
        source = read_text_file(rules)
        with Emulator.start() as emulator:
            result = run(emulator, source, suite, unsigned_token, jobs, _progress())
        report = as_json(result, allow_list)
    except SuiteFailed as failed:
        lines = "\n".join(f"  {case}" for case in failed.cases)
        raise _WrongInput(
            f"These cases do not hold on {rules} as it is; mend the rules or the cases first:\n{lines}"
        ) from None
    except RulesSyntaxError as error:
        raise _WrongInput(f"{rules}:{line_of(source, error.offset)}: {error}") from None
    except RulesError as error:
        raise _WrongInput(f"{rules} does not compile: {error}") from None
    except (CaseError, AllowListError, EmulatorUnavailable, UnexpectedAnswer) as error:
        raise _WrongInput(str(error)) from None
    for path, text in (
        (json_out, json.dumps(report, indent=2) + "\n"),
        (html_out, as_html(report, source, rules.name)),
    ):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    click.echo(as_text(report))
    if report["score"] < min_score or not trustworthy(report):
        sys.exit(1)


class _WrongInput(click.ClickException):
    exit_code = 2


def _progress() -> Callable[[str, int, int], None]:
    """Return a function that shows a bar on a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda *_: None

    def show(what: str, done: int, total: int) -> None:
        bar = "#" * (done * _WIDTH // total)
        sys.stderr.write(f"\r{what:<8} [{bar:<{_WIDTH}}] {done}/{total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return show


if __name__ == "__main__":
    command()
