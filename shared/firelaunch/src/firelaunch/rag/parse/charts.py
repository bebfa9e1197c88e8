"""Charts and diagrams of Office files, as the tables and lists of what they show."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from .base import Draft
from .tables import table

__all__ = ["chart_drafts", "diagram_draft"]

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DGM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_MOST_POINTS = 100_000


def chart_drafts(root: Any, page: int | None, headings: tuple[str, ...]) -> Iterator[Draft]:
    """Yield a chart's title, and a table: a row for each category, a column for each series.

    Args:
        root: of a chart's part (``c:chartSpace``); the values are those that the file keeps of its worksheet.
    """
    title = root.find(f"{_C}chart/{_C}title")
    if title is not None:
        yield Draft(_text(title), "paragraph", page, headings)
    names: list[str] = []
    rows: dict[tuple[int, str], dict[int, str]] = {}
    for number, series in enumerate(root.iter(f"{_C}ser")):
        names.append(" ".join(_points(series.find(f"{_C}tx")).values()) or f"Series {number + 1}")
        categories = _points(_first(series, "cat", "xVal"))
        for at, value in _points(_first(series, "val", "yVal")).items():
            rows.setdefault((at, categories.get(at, str(at + 1))), {})[number] = value
    header = [_axis(root), *names]
    body = ([category, *(values.get(n, "") for n in range(len(names)))] for (_, category), values in rows.items())
    if rows:
        yield from table(chain([header], body), page, headings, 1)


def _axis(root: Any) -> str:
    """Return the title of the axis of categories, or ""."""
    for name in ("catAx", "dateAx", "valAx"):
        title = root.find(f"{_C}chart/{_C}plotArea/{_C}{name}/{_C}title")
        if title is not None:
            return _text(title)
    return ""


def _first(series: Any, *names: str) -> Any:
    return next((found for name in names if (found := series.find(f"{_C}{name}")) is not None), None)


def _points(element: Any) -> dict[int, str]:
    """Return the cached values of a reference by their index; levels of categories are joined, the outer one first."""
    points: dict[int, str] = {}
    if element is None:
        return points
    levels = element.findall(f".//{_C}lvl") or [element]
    for level in levels:
        last = ""
        own: dict[int, str] = {}
        for point in level.iter(f"{_C}pt"):
            at = point.get(f"{_C}idx") or point.get("idx") or ""
            value = point.find(f"{_C}v")
            if at.isdecimal() and len(own) < _MOST_POINTS:
                own[int(at)] = _shown("" if value is None else value.text or "")
        if not points:
            points = own
            continue
        for at in sorted(points):
            last = own.get(at, last)
            points[at] = f"{last} {points[at]}".strip()
    if not points:
        direct = element.find(f"{_C}v")
        return {0: direct.text or ""} if direct is not None else points
    return points


def _shown(value: str) -> str:
    """Return a number with the digits that a spreadsheet shows, which are fewer than those of its floating point."""
    try:
        return f"{float(value):.15g}" if len(value) > 16 else value
    except ValueError:
        return value


def _text(element: Any) -> str:
    lines = ("".join(part.text or "" for part in p.iter(f"{_A}t")) for p in element.iter(f"{_A}p"))
    return " ".join(" ".join(line.split()) for line in lines).strip()


def diagram_draft(root: Any, page: int | None, headings: tuple[str, ...]) -> Draft:
    """Return the texts of a diagram (SmartArt) as a list, in the order of its data."""
    lines = (_text(point) for point in root.iter(f"{_DGM}pt") if point.get("type") in {None, "node", "asst"})
    return Draft("\n".join(f"- {line}" for line in lines if line), "list", page, headings)
