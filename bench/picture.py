"""A benchmark's rows as a picture: bars, each beside those of the same metric and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["picture"]

_WIDE, _LINE, _BAR, _TEXT = 900, 18, 300, 520
_STYLE = "text{font:12px sans-serif;fill:#222}.t{font-weight:bold}rect{fill:#3b6ea5}svg{background:#fff}"


def picture(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['metric']}, {row['unit']}".rstrip(", "), []).append(row)
    parts, y = [_text(10, _LINE, title, "t")], 2 * _LINE
    for name, group in groups.items():
        y += _LINE
        parts.append(_text(10, y, name, "t"))
        most = max(abs(row["value"]) for row in group) or 1
        for row in group:
            y += _LINE
            bar = max(1, round(abs(row["value"]) / most * _BAR))
            parts.append(_text(20, y, row["case"]))
            parts.append(f'<rect x="{_TEXT}" y="{y - 11}" width="{bar}" height="12"/>')
            parts.append(_text(_TEXT + bar + 6, y, f"{row['value']:.4g}"))
        y += _LINE // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{y + _LINE}"><style>{_STYLE}</style>'
    return "\n".join([head, *parts, "</svg>", ""])


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'
