"""Format the report as a page: what the cases leave out, the worst first, then the rules with survivors in place."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["as_html"]

_SAYS = {"opens": "opens access", "either": "changes access", "narrows": "narrows access"}


def as_html(report: Mapping[str, Any], source: str, name: str, figures: str, doubts: Sequence[str]) -> str:
    """Return a page that needs no other file.

    Args:
        figures: the score in words.
        doubts: what the score does not say.
    """
    notes = [html.escape(doubt) for doubt in doubts]
    notes += [
        f"Line {mutant['line']}, {html.escape(mutant['operator'])}, did not compile: {html.escape(mutant['error'])}"
        f"<pre>{html.escape(mutant['after'] or '(nothing)')}</pre>"
        for mutant in report["invalid"]
    ]
    return _PAGE.format(
        name=html.escape(name),
        score=report["score"],
        figures=html.escape(figures),
        notes="".join(f'<div class="note">{note}</div>' for note in notes),
        findings="\n".join(_findings(report)) or "<p>No change survived.</p>",
        lines="\n".join(_lines(report, source)),
    )


def _findings(report: Mapping[str, Any]) -> Iterator[str]:
    by_id = {mutant["id"]: mutant for mutant in report["survived"]}
    last = len(report["findings"])
    for number, finding in enumerate(report["findings"], 1):
        mutants = [by_id[key] for key in finding["mutants"] if key in by_id]
        others = "".join(f"<li>{_link(mutant)}{_change(mutant)}</li>" for mutant in mutants[1:])
        more = (
            f"<details><summary>{len(mutants) - 1} more like it</summary><ul>{others}</ul></details>" if others else ""
        )
        suggested = "".join(f"<pre>- {html.escape(text)}</pre>" for text in finding["suggestions"])
        hint = f'<p class="try">A case that would notice, as the rules are today:</p>{suggested}' if suggested else ""
        jumps = _jumps("f", number, last)
        yield (
            f'<section id="f{number}" class="{finding["direction"]}"><h3><b>{_SAYS[finding["direction"]]}</b> '
            f"{html.escape(finding['cause'])}</h3>{_link(mutants[0])}{_change(mutants[0])}{hint}{more}{jumps}</section>"
        )


def _link(mutant: Mapping[str, Any]) -> str:
    return f'<a href="#L{mutant["line"]}">line {mutant["line"]}</a>, {html.escape(mutant["operator"])}'


def _change(mutant: Mapping[str, Any]) -> str:
    before, after = html.escape(mutant["before"]), html.escape(mutant["after"] or "(nothing)")
    return f'<pre class="old">{before}</pre><pre class="new">{after}</pre>'


def _jumps(kind: str, number: int, last: int) -> str:
    before = f'<a href="#{kind}{number - 1}">previous</a>' if number > 1 else ""
    after = f'<a href="#{kind}{number + 1}">next</a>' if number < last else ""
    return f'<p class="jumps">{before} {after}</p>' if before or after else ""


def _lines(report: Mapping[str, Any], source: str) -> Iterator[str]:
    by_line: dict[int, list[Mapping[str, Any]]] = {}
    for mutant in report["survived"]:
        by_line.setdefault(mutant["line"], []).append(mutant)
    never = {item["line"] for item in report["never_evaluated"]}
    places = {key: number for number, finding in enumerate(report["findings"], 1) for key in finding["mutants"]}
    marked = 0
    for number, text in enumerate(source.splitlines(), 1):
        kind = "bad" if number in by_line else "never" if number in never else ""
        yield f'<div class="line {kind}" id="L{number}"><i>{number}</i><code>{html.escape(text)}</code></div>'
        if number in by_line:
            marked += 1
            yield _survivors(by_line[number], places, marked, len(by_line))


def _survivors(mutants: Sequence[Mapping[str, Any]], places: Mapping[str, int], number: int, last: int) -> str:
    rows = "".join(
        f'<div class="mutant">{_finding_link(mutant, places)}'
        f"<pre>{html.escape(mutant['after'] or '(nothing)')}</pre></div>"
        for mutant in mutants
    )
    title = "1 change survives" if len(mutants) == 1 else f"{len(mutants)} changes survive"
    return f'<details id="s{number}"><summary>{title}</summary>{rows}{_jumps("s", number, last)}</details>'


def _finding_link(mutant: Mapping[str, Any], places: Mapping[str, int]) -> str:
    operator = html.escape(mutant["operator"])
    return (
        f'<a href="#f{places[mutant["id"]]}"><b>{operator}</b></a>' if mutant["id"] in places else f"<b>{operator}</b>"
    )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rules: {name}</title>
<style>
* {{ box-sizing: border-box }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; color: #1c2430; padding: 1rem }}
h1 {{ font-size: 1.2rem; margin: 0 }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} h3 {{ font-size: 1rem; margin: 0 }}
h3 b {{ border-radius: .3rem; padding: .05rem .4rem; margin-right: .3rem; font-weight: 600 }}
.score {{ font-size: 2.4rem; font-weight: 600; line-height: 1.2 }} p {{ color: #4a5568; margin: .4rem 0 }}
a {{ color: #1d4ed8 }} summary {{ cursor: pointer; padding: .4rem 0 }}
section {{ border: 1px solid #d8dee9; border-left: 5px solid; border-radius: .4rem; padding: .7rem; margin: .7rem 0 }}
section, details, .line {{ scroll-margin-top: 1rem }}
.opens {{ border-left-color: #c53030 }} .opens h3 b {{ background: #fde8e8; color: #9b1c1c }}
.either {{ border-left-color: #b7791f }} .either h3 b {{ background: #fff4d6; color: #7b4b00 }}
.narrows {{ border-left-color: #718096 }} .narrows h3 b {{ background: #edf2f7; color: #2d3748 }}
pre, code {{ font: 13px/1.55 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }}
section pre {{ background: #f5f7fa; padding: .3rem .6rem }}
.old::before {{ content: "- " }} .new::before {{ content: "+ " }}
section .old {{ background: #fdf0f0; margin-top: .3rem }} section .new {{ background: #eef8ee }}
ul {{ padding-left: 1.1rem }} .jumps a {{ display: inline-block; padding: .4rem .8rem .4rem 0 }}
.note {{ border-left: 4px solid #c98a00; padding: .2rem .8rem; margin: .4rem 0 }}
.line {{ display: flex }}
.line i {{ flex: 0 0 2.6rem; color: #69758a; text-align: right; padding-right: .6rem; font-style: normal }}
.line code {{ flex: 1; min-width: 0 }} .bad code {{ background: #fde8e8 }} .never code {{ background: #fff4d6 }}
.line:target, section:target {{ outline: 2px solid #1d4ed8 }}
details[id] {{ margin-left: 2.6rem }}
.mutant {{ border-left: 4px solid #d64545; padding: .2rem .8rem; margin: .2rem 0 }}
</style>
<header><h1>{name}</h1><div class="score">{score} %</div><p>{figures}</p></header>
{notes}
<h2>What the cases leave out</h2>
{findings}
<h2>The rules</h2>
<p>Red lines have a change that no case noticed, listed below them; no case has evaluated the yellow ones.</p>
{lines}
<script>
const unfold = () => {{
  const at = document.getElementById(location.hash.slice(1));
  if (at && "open" in at) at.open = true;
}};
addEventListener("hashchange", unfold); unfold();
</script>
</html>
"""
