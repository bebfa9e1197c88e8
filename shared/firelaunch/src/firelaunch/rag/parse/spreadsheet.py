"""Spreadsheets in Excel's binary formats: XLS, and XLSB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

from .base import Draft, ParseLimits, Unreadable
from .tables import table

__all__ = ["parse"]


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield sheets as tables under their names; formulas as their saved values.

    Raises:
        Unreadable: the workbook is protected by a password or damaged.
    """
    import python_calamine as calamine

    try:
        book = calamine.load_workbook(file)
    except calamine.PasswordError as error:
        raise Unreadable("encrypted") from error
    except calamine.CalamineError as error:
        raise Unreadable("damaged", str(error)) from error
    names = [sheet.name for sheet in book.sheets_metadata if sheet.typ == calamine.SheetTypeEnum.WorkSheet]
    for number, name in enumerate(names, start=1):
        try:
            sheet = book.get_sheet_by_name(name)
        except calamine.CalamineError as error:
            raise Unreadable("damaged", str(error)) from error
        yield Draft(name, "heading", number, (name[:300],))
        yield from table(([_cell(value) for value in row] for row in sheet.iter_rows()), number, (name[:300],))
        progress(number / len(names))


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime():
            return str(value.date()) if value.time() == time() else str(value)
        case date() | time() | timedelta() | int() | float():
            return str(value)
    return str(value or "")
