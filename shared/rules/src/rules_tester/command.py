"""The ``rules-tester`` command."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import click

from .case_file import add_cases
from .cases import CaseError, Suite, load_suite
from .changes import changed_since
from .client import UnexpectedAnswer
from .comparison import compared
from .emulator import NoEmulator, RulesEmulator, RulesRefused, unsigned_id_token
from .findings import CoverageGap
from .investigation import Investigation, investigate, investigate_by_command
from .page import as_html
from .parser import parse
from .project import ProjectError, cases_beside, emulator_port, project_folder, read_rules, rules_of
from .project_tests import ProjectTests, TestsUnusable
from .report import AllowListError, as_json, as_text, doubts, figures, load_allow_list, trustworthy
from .runner import Emulating, NotFirestore, RunOptions, SuiteFailed
from .syntax import Ruleset
from .tokens import RulesSyntaxError, line_of
from .verdicts import VerdictStore, cache_folder

__all__ = ["main", "tester"]

_WIDTH = 30
_LINES = 10
"""Lines of progress of each kind of work where there is no terminal."""
_INTERRUPTED = 130
"""The exit code of a shell's command that Ctrl-C ended."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)


class _Starts(Protocol):
    def __call__(self, jar: Path | None) -> AbstractContextManager[Emulating]: ...


class _Duration(click.ParamType[float]):
    """A span of time in seconds, as in 90s, 10m or 1h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if not match:
            self.fail(f"{value!r} is no span of time; write 90s, 10m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class WrongRules(click.ClickException):
    """Something that was given is wrong. The command exits with 2."""

    exit_code = 2


@click.group()
def main() -> None:
    """Test Firestore security rules: would your cases notice if the rules were wrong?"""


def tester(name: str, start: _Starts, failures: tuple[type[Exception], ...]) -> click.Command:
    """Make the command that runs cases against rules and all their mutants.

    Args:
        start: starts an emulator of the JAR file that was given, or of any.
        failures: what ``start`` raises, each with a message for the user.
    """

    wrong: tuple[type[Exception], ...] = (
        CaseError,
        AllowListError,
        UnexpectedAnswer,
        ProjectError,
        NoEmulator,
        TestsUnusable,
        *failures,
    )

    @click.command(name)
    @click.argument("rules", type=_FILE, required=False)
    @click.argument("cases", type=_FILE, required=False)
    @click.option(
        "--command", "tests", metavar="COMMAND", help="Have these tests judge, as 'npm test', in place of CASES."
    )
    @click.option("--json", "json_out", type=_OUT, help="Write the report as JSON.")
    @click.option("--html", "html_out", type=_OUT, help="Write it as a page.")
    @click.option("--min-score", default=100.0, show_default=True, help="Percent of mutants to be killed; else exit 1.")
    @click.option("--allow", type=_FILE, help="Equivalent mutants, YAML.")
    @click.option(
        "--jobs", default=4, show_default=True, type=click.IntRange(1, 32), help="Projects worked on at a time."
    )
    @click.option("--since", metavar="COMMIT", help="Change only statements that differ from this commit, as main.")
    @click.option("--time-limit", type=_Duration(), help="Begin no more mutants after this time, as 90s or 10m.")
    @click.option(
        "--prove/--no-prove", default=True, help="Look for proof that a survivor changes nothing (extra: proof)."
    )
    @click.option("--no-cache", is_flag=True, help="Judge mutants again that an earlier run has judged.")
    @click.option("--suggest/--no-suggest", default=True, help="Look for cases that would notice what survives.")
    @click.option("--write", is_flag=True, help="Add the suggested cases to CASES.")
    @click.option("--emulator", type=_FILE, help="The emulator's JAR file; else it is looked for.")
    def command(
        rules: Path | None,
        cases: Path | None,
        tests: str | None,
        json_out: Path | None,
        html_out: Path | None,
        min_score: float,
        allow: Path | None,
        jobs: int,
        since: str | None,
        time_limit: float | None,
        prove: bool,
        no_cache: bool,
        suggest: bool,
        write: bool,
        emulator: Path | None,
    ) -> None:
        """Run CASES against RULES on the Firestore emulator, then against every small change (mutant) of the rules.

        A change that no case notices survives, and shows what the cases do not test. RULES is by default the file that
        firebase.json names, and CASES the file beside it that ends in .cases.yaml. With --command, a project's own
        tests take the place of the cases: a change survives if they pass.

        Exits with 1 below --min-score or if the score is not complete (nothing to change, mutants that were not run, or
        a change to an expression that does not compile), and with 2 if the input is wrong, or a case or the tests fail
        on the unchanged rules.
        """
        try:
            rules = rules or rules_of(Path.cwd())
            allow_list = load_allow_list(allow) if allow else {}
            source = read_rules(rules)
            ruleset = _parsed(rules, source)
            chosen = changed_since(since, rules, source, ruleset) if since else None
            suite, cases = (None, None) if tests else _suite(rules, cases)
            with start(emulator) as running, _verdicts(no_cache) as verdicts:
                options = RunOptions(jobs, time_limit, chosen, verdicts, prove)

                def investigation() -> Investigation:
                    if suite is None:
                        own = _own_tests(str(tests))
                        return investigate_by_command(running, source, own, options, allow_list, _progress())
                    suggests = suggest or write
                    return investigate(
                        running, source, suite, unsigned_id_token, options, allow_list, suggests, _progress()
                    )

                found = _tested(rules, running, investigation)
            report = as_json(found.result, allow_list, found.findings)
            if write and cases:
                _add(cases, found.findings)
        except wrong as error:
            raise WrongRules(str(error)) from None
        except KeyboardInterrupt:
            kept = "" if tests else " What was judged is kept: run the same command again to go on."
            click.echo(f"\nStopped.{kept}", err=True)
            sys.exit(_INTERRUPTED)
        _put(json_out, json.dumps(report, indent=2) + "\n")
        _put(html_out, as_html(report, source, rules.name, figures(report), doubts(report)))
        click.echo(as_text(report))
        if report["score"] < min_score or not trustworthy(report):
            sys.exit(1)

    return command


def _suite(rules: Path, cases: Path | None) -> tuple[Suite, Path]:
    path = cases or cases_beside(rules)
    return load_suite(path), path


def _own_tests(command: str) -> ProjectTests:
    here = Path.cwd()
    return ProjectTests(command, project_folder(here) or here, emulator_port(here))


def _put(path: Path | None, text: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _add(cases: Path, found: Sequence[CoverageGap]) -> None:
    texts = list(dict.fromkeys(text for finding in found for text in finding.suggestions))
    if texts:
        add_cases(cases, texts)
    click.echo(f"{len(texts)} cases were added to {cases}.", err=True)


def _verdicts(no_cache: bool) -> AbstractContextManager[VerdictStore | None]:
    return nullcontext() if no_cache else VerdictStore(cache_folder())


def _tested(rules: Path, emulator: Emulating, test: Callable[[], Investigation]) -> Investigation:
    try:
        return test()
    except SuiteFailed as failed:
        lines = "\n".join(f"  {case}" for case in failed.cases)
        raise WrongRules(
            f"These cases do not hold on {rules} as it is; mend the rules or the cases first:\n{lines}"
        ) from None
    except NotFirestore as error:
        raise WrongRules(f"{rules}: {error}.") from None
    except emulator.refusal as error:
        raise WrongRules(f"{rules} does not compile: {error}") from None


def _parsed(rules: Path, source: str) -> Ruleset:
    try:
        return parse(source)
    except RulesSyntaxError as error:
        raise WrongRules(f"{rules}:{line_of(source, error.offset)}: {error}") from None


@main.command("check")
@click.argument("rules", type=_FILE, required=False)
def check(rules: Path | None) -> None:
    """Tell whether RULES compile, without Java or an emulator. Exits with 2 if not, and names the line."""
    try:
        rules = rules or rules_of(Path.cwd())
        ruleset = _parsed(rules, read_rules(rules))
    except ProjectError as error:
        raise WrongRules(str(error)) from None
    services = " and ".join(service.name for service in ruleset.services) or "no service"
    click.echo(f"{rules}: rules for {services}, version {ruleset.version}.")


_STATUS = {"none": 0, "closes": 3, "opens": 4}


@main.command("diff")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Say what NEW opens and closes of what OLD allows. Comments, order and names of functions change nothing.

    Exits with 0 if nothing changes, 3 if something is closed and nothing opened, 4 if anything is opened, and 2 if a
    file is wrong. With the extra 'proof', changes that make no difference are told by proof, and the others are shown
    by a request. Without it, two conditions that mean the same and are written otherwise may be told as a change.
    """
    try:
        before, after = (_parsed(path, read_rules(path)) for path in (old, new))
    except ProjectError as error:
        raise WrongRules(str(error)) from None
    found = compared(before, after)
    if as_json:
        click.echo(json.dumps({"kind": found.kind, "opens": found.opened(), "closes": found.closed()}, indent=2))
    else:
        click.echo("\n".join([*found.opened(), *found.closed()]) or "Nobody can do more or less than before.")
    sys.exit(_STATUS[found.kind])


def _progress() -> Callable[[str, int, int], None]:
    """Return a function that shows a bar on a terminal, and a line now and then elsewhere."""
    if not sys.stderr.isatty():
        return _line

    def show(what: str, done: int, total: int) -> None:
        bar = "#" * (done * _WIDTH // total)
        sys.stderr.write(f"\r{what:<8} [{bar:<{_WIDTH}}] {done}/{total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return show


def _line(what: str, done: int, total: int) -> None:
    if done == total or done * _LINES // total > (done - 1) * _LINES // total:
        sys.stderr.write(f"{what} {done}/{total}\n")
        sys.stderr.flush()


main.add_command(tester("run", RulesEmulator.start, (RulesRefused,)))
