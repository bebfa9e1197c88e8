"""Format the result of the mutation tester as JSON, as text or as a page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .runner import RunResult, lines_of
from .tokens import line_of

__all__ = ["AllowListError", "as_html", "as_json", "as_text", "load_allow_list", "trustworthy"]


class AllowListError(Exception):
    """The list of equivalent mutants is not usable. The message says where, and what to correct."""


def load_allow_list(path: Path) -> dict[str, str]:
    """Load the mutants known to change nothing: the reason of each, by id.

    Raises:
        AllowListError: the file is missing or not YAML, or an entry has no id or reason.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or []
    except UnicodeDecodeError:
        raise AllowListError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except (OSError, yaml.YAMLError) as error:
        raise AllowListError(f"{path} cannot be read: {error}") from None
    if not isinstance(entries, list):
        raise AllowListError(f"{path} is not a list of entries with 'id' and 'reason'.")
    allowed: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        is_complete = isinstance(entry, dict) and entry.get("id") and str(entry.get("reason") or "").strip()
        if not is_complete:
            raise AllowListError(f"{path}: entry {number} has no id, or gives no reason.")
        allowed[str(entry["id"])] = str(entry["reason"]).strip()
    return allowed


def as_json(result: RunResult, allow_list: Mapping[str, str]) -> dict[str, Any]:
    """Return the report. ``score`` is the percentage of killed mutants, without those on the allow-list.

    Rules in which nothing can be changed score 0, because nothing was tested.

    Raises:
        AllowListError: an entry of the list is not a surviving mutant.
    """
    by_state = _by_state(result)
    survived, invalid = by_state["survived"], by_state["invalid"]
    stale = sorted(set(allow_list) - {mutant["id"] for mutant in survived})
    if stale:
        raise AllowListError(f"the allow-list names {stale[0]}, and no mutant of that id survives: take it out.")
    killed = len(by_state["killed"])
    open_ones = [mutant for mutant in survived if mutant["id"] not in allow_list]
    allowed = [{**m, "reason": allow_list[m["id"]]} for m in survived if m["id"] in allow_list]
    counted = killed + len(open_ones)
    return {
        "score": _score(killed, counted, nothing=100.0 if allowed or by_state["left out"] else 0.0),
        "mutants": counted,
        "killed": killed,
        "survived": open_ones,
        "untried": sum(outcome.state == "survived" and not outcome.tried for outcome in result.outcomes),
        "not_run": _not_run(result),
        "late": len(by_state["late"]),
        "left_out": len(by_state["left out"]),
        "never_evaluated": [{"line": line, "expression": text} for line, text in lines_of(result)],
        "allowed": allowed,
        "invalid": invalid,
        "cases": result.cases,
    }


def _score(killed: int, counted: int, *, nothing: float) -> float:
    return round(100 * killed / counted, 2) if counted else nothing


def trustworthy(report: Mapping[str, Any]) -> bool:
    """Return whether the score is complete: there was something to change, all of it ran, and expressions compiled."""
    if report["late"] or any(mutant["of_expression"] for mutant in report["invalid"]):
        return False
    return bool(report["mutants"] or report["allowed"] or report["left_out"])


def _by_state(result: RunResult) -> dict[str, list[dict[str, Any]]]:
    """Group the mutants by state, in order of their lines, and make the ids of equal changes distinct."""
    seen: Counter[str] = Counter()
    by_state: dict[str, list[dict[str, Any]]] = {
        state: [] for state in ("killed", "survived", "invalid", "late", "left out")
    }
    for outcome in result.outcomes:
        mutant = outcome.mutant.shown(result.source)
        seen[mutant["id"]] += 1
        if seen[mutant["id"]] > 1:
            mutant["id"] += f"-{seen[mutant['id']]}"
        if outcome.state == "invalid":
            mutant |= {"of_expression": outcome.mutant.expression is not None, "error": outcome.error}
        by_state[outcome.state].append(mutant)
    return {state: sorted(mutants, key=lambda mutant: int(mutant["line"])) for state, mutants in by_state.items()}


def as_text(report: Mapping[str, Any]) -> str:
    """Format the report for a terminal."""
    lines = []
    for mutant in report["survived"]:
        lines += [f"survived  line {mutant['line']}  {mutant['operator']}  ({mutant['id']})"]
        lines += [f"  - {mutant['before']}", f"  + {mutant['after'] or '(nothing)'}"]
    for item in report["never_evaluated"]:
        lines.append(f"never evaluated  line {item['line']}  {item['expression']}")
    for mutant in report["allowed"]:
        lines.append(f"allowed  line {mutant['line']}  {mutant['operator']}: {mutant['reason']}")
    for mutant in report["invalid"]:
        lines += [f"invalid  line {mutant['line']}  {mutant['operator']}  ({mutant['id']}): {mutant['error']}"]
        lines += [f"  - {mutant['before']}", f"  + {mutant['after'] or '(nothing)'}"]
    lines += _doubts(report)
    lines.append(
        f"{report['killed']} of {report['mutants']} mutants killed by {report['cases']} cases: {report['score']} %"
        f"{_invalid(report)}"
    )
    return "\n".join(lines)


def _not_run(result: RunResult) -> list[dict[str, Any]]:
    return [
        {
            "service": service.name,
            "line": line_of(result.source, service.start),
            "last_line": line_of(result.source, service.end),
        }
        for service in result.not_run
    ]


def _invalid(report: Mapping[str, Any]) -> str:
    return f" ({len(report['invalid'])} did not compile and do not count)"


def _doubts(report: Mapping[str, Any]) -> list[str]:
    """Return what the score does not say, if there is anything."""
    doubts = [
        f"Not run: {item['service']}, lines {item['line']} to {item['last_line']}. The Firestore emulator does not "
        "serve it, and the score says nothing of it."
        for item in report["not_run"]
    ]
    if report["untried"]:
        doubts.append(f"{report['untried']} of the survivors were not tried: no case reaches what they change.")
    if report["late"]:
        doubts.append(
            f"{report['late']} mutants were not run: the time was up. The score leaves them out. Run again to go on."
        )
    if report["left_out"]:
        doubts.append(f"{report['left_out']} mutants were not run: what they change is as it was in the commit given.")
    if not (report["mutants"] or report["allowed"] or report["late"] or report["left_out"]):
        doubts.append("There is nothing to change in these rules, so nothing was tested. Is this the right file?")
    if any(mutant["of_expression"] for mutant in report["invalid"]):
        doubts.append(
            "Changes to expressions did not compile, so what they stand for was not tested and the score does not "
            "hold. This is a fault of the tester: please report it with the lines above."
        )
    return doubts


def as_html(report: Mapping[str, Any], source: str, name: str) -> str:
    """Format the report as a complete page: the rules, each line with its surviving mutants."""
    by_line: dict[int, list[Mapping[str, Any]]] = {}
    for mutant in report["survived"]:
        by_line.setdefault(mutant["line"], []).append(mutant)
    never = {item["line"] for item in report["never_evaluated"]}
    rows = []
    for number, text in enumerate(source.splitlines(), 1):
        kind = "bad" if number in by_line else "never" if number in never else ""
        rows.append(f'<tr class="{kind}"><td>{number}</td><td><pre>{html.escape(text)}</pre></td></tr>')
        rows += [_mutant_row(mutant) for mutant in by_line.get(number, [])]
    figures = f"{report['killed']} of {report['mutants']} mutants killed by {report['cases']} cases{_invalid(report)}"
    notes = [html.escape(doubt) for doubt in _doubts(report)]
    notes += [
        f"Line {mutant['line']}, {html.escape(mutant['operator'])}, did not compile: {html.escape(mutant['error'])}"
        f"<pre>{html.escape(mutant['after'] or '(nothing)')}</pre>"
        for mutant in report["invalid"]
    ]
    invalid = "".join(f'<div class="invalid">{note}</div>' for note in notes)
    return _PAGE.format(
        name=html.escape(name), score=report["score"], figures=figures, invalid=invalid, rows="\n".join(rows)
    )


def _mutant_row(mutant: Mapping[str, Any]) -> str:
    after = html.escape(mutant["after"] or "(nothing)")
    return f'<tr class="mutant"><td></td><td><b>{html.escape(mutant["operator"])}</b><pre>{after}</pre></td></tr>'


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Rules: {name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #1c2430; padding: 0 1rem }}
h1 {{ font-size: 1.3rem }} .score {{ font-size: 2.4rem; font-weight: 600 }} p {{ color: #4a5568 }}
table {{ border-collapse: collapse; width: 100% }} td {{ vertical-align: top; padding: 0 .6rem }}
td:first-child {{ color: #8a94a6; text-align: right; width: 3rem; user-select: none }}
pre {{ margin: 0; font: 13px/1.6 ui-monospace, monospace; white-space: pre-wrap }}
.bad td:last-child {{ background: #fde8e8 }} .never td:last-child {{ background: #fff4d6 }}
.invalid {{ border-left: 4px solid #c98a00; padding: .2rem .8rem; margin: .4rem 0 }}
.mutant td:last-child {{ background: #fff; border-left: 4px solid #d64545; padding: .2rem .8rem }}
</style>
<h1>{name}</h1><div class="score">{score} %</div>
<p>{figures}. Red lines have a change that no case noticed, shown below them; yellow ones no case has evaluated.</p>
{invalid}
<table>
{rows}
</table></html>
"""
