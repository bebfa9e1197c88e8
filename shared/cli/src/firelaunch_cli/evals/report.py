"""Format a report of ``firelaunch eval`` for people, as text or as a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

__all__ = ["as_html", "as_junit", "as_text"]

Report = Mapping[str, Any]

_COLOURS = {"lexical": "#8a94a6", "vector": "#5b8def", "hybrid": "#2f9e6e", "answers": "#2f9e6e"}
_LISTS = {
    "unchecked": "Not checked",
    "unfaithful": "Not faithful",
    "disagreed": "Judged otherwise than labelled",
    "unjudged": "Not judged",
}
"""The parts of a report that are lists of lines and no failures, and their headings on a page."""
_MEANINGS = {
    "ndcg@10": "how well the first 10 documents are ordered; 1 is perfect",
    "recall@100": "share of the relevant documents that are among the first 100",
    "mrr": "1 / place of the first relevant document, on average",
    "best@50": "ndcg@10 of the best order of the first 50, which a perfect reranker would reach",
}
"""Explains a search's figures below their table."""
_BAR, _GAP, _HEIGHT, _LEFT = 34, 26, 180, 40


def as_text(report: Report, old: Report | None = None) -> str:
    """Format the report for a terminal, with each metric's change since an older report."""
    metrics = _metrics(report)
    wide = max(9, *(len(mode) + 1 for mode in report["modes"]))
    lines = [_headline(report), "", f"{'mode':<{wide}}" + "".join(f"{metric:>20}" for metric in metrics)]
    for mode, row in report["modes"].items():
        before = old["modes"].get(mode, {}) if old else {}
        lines.append(f"{mode:<{wide}}" + "".join(f"{_cell(metric, row, before):>20}" for metric in metrics))
    if explained := [metric for metric in metrics if metric in _MEANINGS]:
        lines += ["", *(f"{metric}: {_MEANINGS[metric]}" for metric in explained)]
    for mode, intervals in report.get("intervals", {}).items():
        lines += [f"{mode}: {name} is {low:.4f} to {high:.4f} (95%)" for name, (low, high) in intervals.items()]
    if report.get("embedder", "") is None:
        way = "" if "app" in report else " (--embedder)"
        lines += ["", f"There is no embedding model, so only words were searched{way}."]
    if failed := report.get("reranker_failed"):
        lines += ["", f"The reranker failed {failed:,} times; there the order is that of the search."]
    lines += [f"failed: {line}" for line in report.get("failed", [])]
    for name in _LISTS:
        lines += [f"{name}: {line}" for line in report.get(name, [])]
    for label, said in report.get("confusion", {}).items():
        lines.append(f"labelled {label}: " + (", ".join(f"{count} {other}" for other, count in said.items()) or "none"))
    lines += [f"worse: {line}" for line in report.get("compared", {}).get("regressions", [])]
    lines += [f"below: {line}" for line in report.get("below", [])]
    return "\n".join(lines)


def as_junit(report: Report) -> str:
    """Format the report as JUnit's XML: a test case for each question of an app, and one for each figure's gate."""
    suite = ElementTree.Element("testsuite", name=f"firelaunch eval {report['collection']}")
    for row in report.get("rows", ()):
        case = ElementTree.SubElement(suite, "testcase", classname=report["collection"], name=_xml_text(row["ask"]))
        missed = [name for name, passed in row["checks"].items() if not passed]
        if missed:
            message = f"{', '.join(missed)} ({row['fault']})"
            ElementTree.SubElement(case, "failure", message=message).text = _xml_text(row["answer"])
        elif not row["checks"]:
            ElementTree.SubElement(case, "skipped", message="nothing is checked")
    gates = [
        ("not below its least value", report.get("below")),
        ("not worse", report.get("compared", {}).get("regressions")),
    ]
    for name, failures in gates:
        if failures is not None:
            case = ElementTree.SubElement(suite, "testcase", classname=report["collection"], name=name)
            for failure in failures:
                ElementTree.SubElement(case, "failure", message=failure)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(sum(1 for case in suite if case.find("failure") is not None)))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _xml_text(text: str) -> str:
    """Return the text without the control characters that XML cannot hold."""
    return "".join(each for each in text if each in "\t\n" or (each >= " " and each not in "\ufffe\uffff"))


def _metrics(report: Report) -> tuple[str, ...]:
    """Return the names of the report's metrics, latencies last."""
    return tuple(next(iter(report["modes"].values())))


def _headline(report: Report) -> str:
    if "model" in report:
        counts = f"{report['questions']:,} questions on {report['documents']:,} documents"
        judge = f", judged by {report['judge']}" if "judge" in report else ""
        verb = "judged" if "confusion" in report else "answered"
        return f"{report['collection']}: {counts}, {verb} by {report['model']}{judge}{_cost(report)}"
    documents, by = f"{report['documents']:,} documents", ""
    if "app" in report:
        documents += f" in {report['passages']:,} passages"
        by = f"{report['app']}'s search ({report['backend']}, language {report['language']}), "
    return (
        f"{report['collection']}: {documents}, {report['questions']:,} questions, {by}"
        f"embedder {report['embedder'] or 'none'}, indexed in {report['indexing_seconds']} s{_cost(report)}"
    )


def _cost(report: Report) -> str:
    return f", ${report['cost_micro_usd'] / 1_000_000:.6f}" if report.get("cost_micro_usd") else ""


def _cell(metric: str, row: Mapping[str, float], before: Mapping[str, float]) -> str:
    if metric.endswith("_ms"):
        return f"{row[metric]:.2f}"
    change = f" ({row[metric] - before[metric]:+.4f})" if metric in before else ""
    return f"{row[metric]:.4f}{change}"


def as_html(report: Report, old: Report | None = None) -> str:
    """Format the report as a complete page, with a chart of the metrics and one of the latencies."""
    rows, metrics = [], _metrics(report)
    quality = tuple(metric for metric in metrics if not metric.endswith("_ms"))
    for mode, row in report["modes"].items():
        before = old["modes"].get(mode, {}) if old else {}
        cells = "".join(f"<td>{_cell(metric, row, before)}</td>" for metric in metrics)
        rows.append(f"<tr><th>{html.escape(mode)}</th>{cells}</tr>")
    worse = "".join(f"<li>{html.escape(line)}</li>" for line in report.get("compared", {}).get("regressions", []))
    failed = "".join(f"<li>{html.escape(line)}</li>" for line in report.get("failed", []))
    return _PAGE.format(
        name=html.escape(report["collection"]),
        headline=html.escape(_headline(report)),
        heads="".join(f"<th>{metric}</th>" for metric in metrics),
        rows="\n".join(rows),
        legend="".join(
            f'<i style="background:{colour}"></i>{mode}' for mode, colour in _COLOURS.items() if mode in report["modes"]
        ),
        title="Answers that pass" if "model" in report else "How much is found",
        quality=_chart(report["modes"], quality, 1.0, "{:.3f}"),
        latency=_chart(report["modes"], metrics[len(quality) :], _highest(report["modes"]), "{:.1f}"),
        worse=(f"<h2>Failed</h2><ul>{failed}</ul>" if failed else "")
        + "".join(_list(heading, report[name]) for name, heading in _LISTS.items() if report.get(name))
        + (f"<h2>Worse than before</h2><ul>{worse}</ul>" if worse else ""),
    )


def _list(heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<h2>{heading}</h2><ul class="noted">{items}</ul>'


def _highest(modes: Mapping[str, Mapping[str, float]]) -> float:
    return max((row["p95_ms"] for row in modes.values()), default=1.0) or 1.0


def _chart(modes: Mapping[str, Mapping[str, float]], metrics: tuple[str, ...], top: float, form: str) -> str:
    """Draw a bar chart as SVG, with a group of bars for each metric and a bar for each mode."""
    parts, x = [], _LEFT
    for metric in metrics:
        group_x = x
        for mode, row in modes.items():
            height = round(_HEIGHT * min(1.0, row[metric] / top), 1)
            y = _HEIGHT + 20 - height
            label = form.format(row[metric])
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_BAR - 4}" height="{height}" fill="{_COLOURS.get(mode, "#888")}">'
                f"<title>{html.escape(mode)}: {label}</title></rect>"
                f'<text x="{x + _BAR / 2 - 2}" y="{y - 4}">{label}</text>'
            )
            x += _BAR
        parts.append(f'<text class="metric" x="{(group_x + x) / 2}" y="{_HEIGHT + 38}">{metric}</text>')
        x += _GAP
    return f'<svg viewBox="0 0 {x + 10} {_HEIGHT + 50}" width="{x + 10}" role="img">{"".join(parts)}</svg>'


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Evaluation: {name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #1c2430; padding: 0 1rem }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.05rem; margin-top: 2rem }} p {{ color: #4a5568 }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #e3e8ef }}
th:first-child {{ text-align: left }} svg {{ max-width: 100%; height: auto }}
svg text {{ font: 10px ui-monospace, monospace; text-anchor: middle; fill: #4a5568 }} svg .metric {{ font-size: 12px }}
i {{ display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem }} li {{ color: #c53030 }}
.noted li {{ color: inherit }}
</style>
<h1>{name}</h1><p>{headline}</p>
<table><tr><th>mode</th>{heads}</tr>
{rows}
</table>
{worse}
<h2>{title}</h2>
<p>{legend}</p>
{quality}
<h2>How long it takes, in milliseconds</h2>
{latency}
</html>
"""
