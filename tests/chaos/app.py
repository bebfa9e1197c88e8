"""The template's app, whose process kills itself at a step of its work if a file says so.

The environment's CHAOS_STEP names the file. It holds a number and "before" or "after": the number of commits, index
writes and files from then on. It is removed before the process dies, so that it dies once.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firelaunch.rag.files import LocalFiles
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.server.app import App
from firelaunch.store.sqlite import SQLiteStore

__all__ = ["create_app"]

_STEPS = {
    SQLiteStore: ("commit", "transaction", "delete_tree", "scrub"),
    EmbeddedIndex: ("upsert", "delete"),
    LocalFiles: ("put", "copy", "delete"),
}
"""The methods that write to the disk, by their class."""


class _Steps:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._done = 0

    def wrap(self, owner: type, name: str) -> None:
        """Count the calls of a method."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args: Any, **more: Any) -> Any:
            dies = self._dies()
            if dies == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **more)
            if dies == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)

    def _dies(self) -> str:
        with self._lock:
            try:
                number, when = self._path.read_text().split()
            except (OSError, ValueError):
                self._done = 0
                return ""
            self._done += 1
            if self._done < int(number):
                return ""
            self._path.unlink()
            return when


def create_app() -> App:
    """The app in the current folder."""
    if path := os.environ.get("CHAOS_STEP"):
        steps = _Steps(Path(path))
        for owner, names in _STEPS.items():
            for name in names:
                steps.wrap(owner, name)
    from app import create_app as create  # type: ignore[import-not-found]

    app: App = create()
    return app
