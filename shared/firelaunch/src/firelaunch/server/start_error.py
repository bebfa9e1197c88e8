"""Say why an app cannot start: one error, and where in the app's own code it comes from."""

from __future__ import annotations

import traceback
from pathlib import Path

from ..telemetry import SECRET

__all__ = ["start_error", "start_report"]

_FRAMES = 5
"""The last places of an error that a terminal shows. More would push the line that counts out of sight."""


def start_error(error: BaseException, folder: Path) -> str:
    """Return an error in one line, as in "app/menu.py, line 3: KeyError: 'MENU'".

    Args:
        folder: the app's folder. Of the error's places the last one in the app's own code is named, if there is one.
    """
    place = _place(error, folder.resolve())
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    kind = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return SECRET.sub("[secret]", f"{place}: {kind}" if place else kind)


def start_report(error: BaseException, folder: Path) -> str:
    """Return what a terminal shows of an error: the way to it through the app's code, and at the end its line."""
    line = f"The app cannot start: {start_error(error, folder)}"
    if isinstance(error, SyntaxError):
        return line + (f"\n    {error.text.strip()}" if error.text else "")
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<frozen")]
    first = next((number for number, each in enumerate(frames) if _is_own(each.filename, folder.resolve())), None)
    if first is None:
        return line
    way = "".join(traceback.format_list(frames[first:][-_FRAMES:]))
    return f"{SECRET.sub('[secret]', way)}\n{line}"


def _place(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return _shown(error.filename, error.lineno or 0, folder)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename, folder)]
    return _shown(frames[-1].filename, frames[-1].lineno or 0, folder) if frames else ""


def _shown(file: str, line: int, folder: Path) -> str:
    path = Path(file).resolve()
    return f"{path.relative_to(folder) if path.is_relative_to(folder) else path}, line {line}"


def _is_own(file: str, folder: Path) -> bool:
    path = Path(file).resolve()
    return (
        not file.startswith("<")
        and path.is_relative_to(folder)
        and not {"site-packages", ".venv"} & set(path.relative_to(folder).parts)
    )
