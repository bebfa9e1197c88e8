"""Format the result of the mutation tester as JSON or as text. :mod:`.page` formats it as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .findings import CoverageGap
from .runner import RunResult, lines_of
from .tokens import line_of

__all__ = ["AllowListError", "as_json", "as_text", "doubts", "figures", "ids_of", "load_allow_list", "trustworthy"]


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


def as_json(result: RunResult, allow_list: Mapping[str, str], found: Sequence[CoverageGap] = ()) -> dict[str, Any]:
    """Return the report. ``score`` is the percentage of killed mutants, without those on the allow-list.

    Rules in which nothing can be changed score 0, because nothing was tested.

    Raises:
        AllowListError: an entry of the list is not a surviving mutant.
    """
    by_state = _by_state(result)
    survived, invalid = by_state["survived"], by_state["invalid"]
    equivalent = by_state["equivalent"]
    stale = sorted(set(allow_list) - {mutant["id"] for mutant in (*survived, *equivalent)})
    if stale:
        raise AllowListError(f"the allow-list names {stale[0]}, and no mutant of that id survives: take it out.")
    killed = len(by_state["killed"])
    open_ones = [mutant for mutant in survived if mutant["id"] not in allow_list]
    allowed = [{**m, "reason": allow_list[m["id"]]} for m in survived if m["id"] in allow_list]
    counted = killed + len(open_ones)
    return {
        "score": _score(killed, counted, nothing=100.0 if allowed or equivalent or by_state["left out"] else 0.0),
        "mutants": counted,
        "killed": killed,
        "survived": open_ones,
        "findings": _findings(result, found),
        "untried": sum(outcome.state == "survived" and not outcome.tried for outcome in result.outcomes),
        "not_run": _not_run(result),
        "late": len(by_state["late"]),
        "left_out": len(by_state["left out"]),
        "never_evaluated": [{"line": line, "expression": text} for line, text in lines_of(result)],
        "allowed": allowed,
        "proves": result.proves,
        "proved_equivalent": len(equivalent),
        "equivalent": equivalent,
        "invalid": invalid,
        "cases": result.cases,
        "command": result.command,
    }


def _score(killed: int, counted: int, *, nothing: float) -> float:
    return round(100 * killed / counted, 2) if counted else nothing


def trustworthy(report: Mapping[str, Any]) -> bool:
    """Return whether the score is complete: there was something to change, all of it ran, and expressions compiled."""
    if report["late"] or any(mutant["of_expression"] for mutant in report["invalid"]):
        return False
    return bool(report["mutants"] or report["allowed"] or report["left_out"] or report["equivalent"])


def ids_of(result: RunResult) -> list[str]:
    """Return the id of each outcome's mutant. Equal changes get distinct ones."""
    seen: Counter[str] = Counter()
    ids = []
    for outcome in result.outcomes:
        key = outcome.mutant.shown(result.source)["id"]
        seen[key] += 1
        ids.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return ids


def _findings(result: RunResult, found: Sequence[CoverageGap]) -> list[dict[str, Any]]:
    id_of = {id(outcome.mutant): key for outcome, key in zip(result.outcomes, ids_of(result), strict=True)}
    return [
        {
            "cause": finding.cause,
            "line": line_of(result.source, finding.offset),
            "direction": finding.direction,
            "mutants": [id_of[id(mutant)] for mutant in finding.mutants],
            "suggestions": finding.suggestions,
        }
        for finding in found
    ]


def _by_state(result: RunResult) -> dict[str, list[dict[str, Any]]]:
    """Group the mutants by state, in order of their lines."""
    by_state: dict[str, list[dict[str, Any]]] = {
        state: [] for state in ("killed", "survived", "equivalent", "invalid", "late", "left out")
    }
    for outcome, key in zip(result.outcomes, ids_of(result), strict=True):
        mutant = {**outcome.mutant.shown(result.source), "id": key}
        if outcome.state == "invalid":
            mutant |= {"of_expression": outcome.mutant.expression is not None, "error": outcome.error}
        by_state[outcome.state].append(mutant)
    return {state: sorted(mutants, key=lambda mutant: int(mutant["line"])) for state, mutants in by_state.items()}


def as_text(report: Mapping[str, Any]) -> str:
    """Format the report for a terminal."""
    by_id = {mutant["id"]: mutant for mutant in report["survived"]}
    lines = []
    for finding in report["findings"]:
        first, *others = [by_id[key] for key in finding["mutants"]]
        lines += [
            f"{finding['direction']}  line {first['line']}  {finding['cause']}: {first['operator']} ({first['id']})"
        ]
        lines += [f"  - {first['before']}", f"  + {first['after'] or '(nothing)'}"]
        if others:
            listed = ", ".join(f"{mutant['operator']} ({mutant['id']})" for mutant in others)
            lines += [f"  and {len(others)} more: {listed}"]
        lines += [f"  try: {text}" for text in finding["suggestions"]]
    for item in report["never_evaluated"]:
        lines.append(f"never evaluated  line {item['line']}  {item['expression']}")
    for mutant in report["allowed"]:
        lines.append(f"allowed  line {mutant['line']}  {mutant['operator']}: {mutant['reason']}")
    for mutant in report["invalid"]:
        lines += [f"invalid  line {mutant['line']}  {mutant['operator']}  ({mutant['id']}): {mutant['error']}"]
        lines += [f"  - {mutant['before']}", f"  + {mutant['after'] or '(nothing)'}"]
    lines += doubts(report)
    lines.append(figures(report))
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


def doubts(report: Mapping[str, Any]) -> list[str]:
    """Return what the score does not say, if there is anything."""
    found = [
        f"Not run: {item['service']}, lines {item['line']} to {item['last_line']}. The Firestore emulator does not "
        "serve it, and the score says nothing of it."
        for item in report["not_run"]
    ]
    if report["untried"]:
        by = "test" if report["command"] else "case"
        found.append(f"{report['untried']} of the survivors were not tried: no {by} reaches what they change.")
    if report["proved_equivalent"]:
        found.append(
            f"{report['proved_equivalent']} changes do not count: it was proved that no request tells a difference."
        )
    if report["survived"] and not report["proves"]:
        found.append("Some of the survivors may make no difference: with the extra 'proof' they are told by proof.")
    if report["late"]:
        found.append(
            f"{report['late']} mutants were not run: the time was up. The score leaves them out."
            + ("" if report["command"] else " Run again to go on.")
        )
    if report["left_out"]:
        found.append(f"{report['left_out']} mutants were not run: what they change is as it was in the commit given.")
    if not any(report[key] for key in ("mutants", "allowed", "equivalent", "late", "left_out")):
        found.append("There is nothing to change in these rules, so nothing was tested. Is this the right file?")
    if any(mutant["of_expression"] for mutant in report["invalid"]):
        found.append(
            "Changes to expressions did not compile, so what they stand for was not tested and the score does not "
            "hold. This is a fault of the tester: please report it with the lines above."
        )
    return found


def figures(report: Mapping[str, Any]) -> str:
    """Return the score in words."""
    by = f"'{report['command']}'" if report["command"] else f"{report['cases']} cases"
    return f"{report['killed']} of {report['mutants']} mutants killed by {by}: {report['score']} %{_invalid(report)}"
