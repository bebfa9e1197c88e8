"""From the environment to the functions' apps: what :mod:`firelaunch.wiring` is to the services.

Variables: GOOGLE_CLOUD_PROJECT; DEDICATED_APPS, the ids of the apps that have a database of their own, with commas
between them; and, on a laptop alone, FIRESTORE_EMULATOR_HOST and FIREBASE_AUTH_EMULATOR_HOST.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache

from ..errors import SettingsError
from ..membership.door import Door
from ..scope import check_app_id
from ..store.base import DocumentStore
from ..telemetry import configure_logs
from ..web import App
from .door import Tokens, door_app

__all__ = ["build_door", "databases"]


def build_door(environ: Mapping[str, str] = os.environ) -> App:
    """The membership function's app. Connects to nothing; adapters do when they are first used.

    Raises:
        SettingsError: a variable is missing, or one that is for a laptop alone is set on Cloud Run.
    """
    from ..membership.firebase import FirebaseDirectory

    project = _project(environ)
    configure_logs(structured=bool(environ.get("K_SERVICE")), project=project)
    database = databases(environ)
    door = Door(FirebaseDirectory(project), database, database(None), lambda: datetime.now(UTC))
    return door_app(door, _tokens(project, environ))


def databases(environ: Mapping[str, str]) -> Callable[[str | None], DocumentStore]:
    """Finds the Firestore database of an app by its id; of the project itself by None.

    Raises:
        SettingsError, InvalidId: DEDICATED_APPS names something that is no app's id.
    """
    from ..store.firestore import FirestoreStore

    project = _project(environ)
    dedicated = {check_app_id(name.strip()) for name in environ.get("DEDICATED_APPS", "").split(",") if name.strip()}

    @cache
    def named(database: str) -> DocumentStore:
        return FirestoreStore(project, database)

    return lambda app_id: named(app_id if app_id in dedicated and app_id is not None else "(default)")


def _project(environ: Mapping[str, str]) -> str:
    if environ.get("K_SERVICE"):
        for name in ("FIRESTORE_EMULATOR_HOST", "FIREBASE_AUTH_EMULATOR_HOST"):
            if environ.get(name):
                raise SettingsError(
                    f"{name} is set on Cloud Run (K_SERVICE is set): tokens would go unchecked. Unset it."
                )
    project = environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise SettingsError("GOOGLE_CLOUD_PROJECT is not set: set it to the Firebase project's id.")
    return project


def _tokens(project: str, environ: Mapping[str, str]) -> Tokens:
    from ..identity.firebase import EmulatorTokens, FirebaseTokens

    return EmulatorTokens(project) if environ.get("FIREBASE_AUTH_EMULATOR_HOST") else FirebaseTokens(project)
