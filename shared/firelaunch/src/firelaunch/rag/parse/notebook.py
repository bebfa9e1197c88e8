"""Jupyter notebooks: their texts, their code, and what the code printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from typing import Any, BinaryIO

from . import markdown
from .base import Draft, Outline, ParseLimits, Unreadable
from .encoding import read_text

__all__ = ["parse"]

_OUTPUT_CHARACTERS = 4_000
"""Characters of one output that are read; the rest is a log or data."""


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the cells' blocks; in the place of a page stands the cell's number.

    Raises:
        Unreadable: the file is no notebook.
    """
    try:
        notebook = json.loads(read_text(file, progress))
    except ValueError as error:
        raise Unreadable("damaged", f"JSON: {error}") from error
    except RecursionError as error:
        raise Unreadable("too_deep") from error
    outline = Outline()
    for number, cell in enumerate(_cells(notebook), start=1):
        source = _text(cell.get("source", cell.get("input")))
        match cell.get("cell_type"):
            case "markdown":
                for at, draft in enumerate(markdown.drafts(StringIO(source), outline)):
                    yield replace(draft, page=number, gap=draft.gap if at else None)
            case "heading":  # of notebooks before their version 4
                yield Draft(source, "heading", number, outline.enter(int(cell.get("level", 1)), source))
            case "code":
                yield Draft(source.strip("\n"), "code", number, outline.path)
                for output in cell.get("outputs") or []:
                    yield Draft(_printed(output).strip("\n")[:_OUTPUT_CHARACTERS], "code", number, outline.path)
            case _:
                yield Draft(source, "paragraph", number, outline.path)


def _cells(notebook: Any) -> Iterator[dict[str, Any]]:
    sheets = [notebook, *(notebook.get("worksheets") or [])] if isinstance(notebook, dict) else []
    for sheet in sheets:
        yield from (cell for cell in (sheet.get("cells") or []) if isinstance(cell, dict))


def _printed(output: Any) -> str:
    """Return an output's text; pictures and errors' traces have none."""
    if not isinstance(output, dict):
        return ""
    data = output.get("data")
    plain = data.get("text/plain") if isinstance(data, dict) else None
    return _text(output.get("text") or plain)


def _text(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")
