"""The Firebase web app of an app's clients, and the config that they initialise the Firebase SDK with.

Nothing in a config is secret: the API key says which project a request is for, and lets nobody in
(https://firebase.google.com/docs/projects/api-keys).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .gcloud import CommandFailed, Request, Tools
from .resources import FIREBASE, Place
from .steps import Step

__all__ = ["web_app", "web_config"]

_FIELDS = ("apiKey", "authDomain", "projectId", "storageBucket", "messagingSenderId", "appId", "measurementId")
"""Of a config, those that the SDK reads and Google has not deprecated
(https://firebase.google.com/docs/reference/firebase-management/rest/v1beta1/projects.webApps/getConfig)."""

_PAGE = 100
"""Web apps of one answer; a project has 30 apps at most
(https://firebase.google.com/docs/projects/learn-more#best-practices)."""


def web_app(place: Place, app: str) -> Step:
    """A Firebase web app that bears the app's id as its name."""
    create = Request("POST", _apps(place), {"displayName": app}, operations=FIREBASE, awaited=True)
    return Step(
        f"Firebase web app {app}, for its clients",
        (_list(place),),
        lacks=lambda a: [] if _find(a[0], app) else [create],
        mend=f"ask for roles/firebase.admin in {place.project}; where it has too many apps, remove one: "
        f"https://console.firebase.google.com/project/{place.project}/settings/general",
    )


def web_config(tools: Tools, place: Place, app: str) -> dict[str, str]:
    """Return the config that a web client gives to ``initializeApp``.

    Raises:
        CommandFailed: the app has no web app yet, or the API refused.
    """
    there = _find(tools.request(_list(place)), app)
    if there is None:
        raise CommandFailed(f"{place.project} has no Firebase web app {app}", f"firelaunch deploy {app}")
    config = tools.request(Request("GET", f"{_apps(place)}/{there['appId']}/config")) or {}
    return {name: config[name] for name in _FIELDS if config.get(name)}


def _apps(place: Place) -> str:
    return f"{FIREBASE}/projects/{place.project}/webApps"


def _list(place: Place) -> Request:
    return Request("GET", f"{_apps(place)}?pageSize={_PAGE}")


def _find(listed: Any, app: str) -> Mapping[str, Any] | None:
    return next((each for each in (listed or {}).get("apps", []) if each.get("displayName") == app), None)
