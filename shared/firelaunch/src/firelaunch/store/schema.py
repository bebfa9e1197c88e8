"""The version of firelaunch's own data in an app's database, and the check that this code knows it.

The check runs beside a process's first request, in a thread of its own, so no answer waits for it. A process that finds
the data of a newer firelaunch, such as one that a rollback brought back, refuses all requests from then on.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from ..errors import AlreadyExists, PreconditionFailed, SettingsError
from .base import Create, Update
from .scoped import ScopedStore

__all__ = ["SCHEMA", "SchemaCheck", "check_schema"]

log = logging.getLogger(__name__)

SCHEMA: Final = 1
"""The version of the data that this code writes. Raise it if older code could not read the data, or would harm it."""

_TRIES = 3


def check_schema(store: ScopedStore) -> None:
    """Record that the app's data is of this version, if it is of no version or of an older one.

    Raises:
        SettingsError: the data is of a newer version.
    """
    path = store.scope.schema()
    for _ in range(_TRIES):
        document = store.get(path)
        version = 0 if document is None else document.data.get("version", 0)
        if version > SCHEMA:
            raise SettingsError(
                f"The data of {store.scope.app_id!r} was written by a newer firelaunch (schema {version}; this one has "
                f"{SCHEMA}). Deploy a version of the app with that firelaunch."
            )
        if document is not None and version == SCHEMA:
            return
        data = {"version": SCHEMA}
        try:
            store.commit([Create(path, data) if document is None else Update(path, data, document.update_time)])
        except (AlreadyExists, PreconditionFailed):
            continue  # another process was first


class SchemaCheck:
    """Runs :func:`check_schema` once in a process, beside its first request. You may call it from many threads."""

    def __init__(self, store: ScopedStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._newer: SettingsError | None = None

    def begin(self) -> None:
        """Begin the check, if it has not been made.

        Raises:
            SettingsError: the check has found data of a newer version.
        """
        if self._newer is not None:
            raise self._newer
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="schema-check", daemon=True)
                    self._thread.start()

    def wait(self) -> None:
        """Wait until the check has ended, if it has begun."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            check_schema(self._store)
        except SettingsError as error:
            log.critical("%s", error)
            self._newer = error
        except Exception as error:
            log.warning("the version of the data was not read; the next request tries again: %s", error)
            self._thread = None
