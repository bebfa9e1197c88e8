"""Firebase's API of projects: Firebase is added to the project, web apps are made, their config is read."""

from __future__ import annotations

from typing import Any

from .base import Call, Refusal, Route, not_found
from .project import Project

__all__ = ["Firebase"]

_API = "firebase.googleapis.com/v1beta1"
_MOST_APPS = 30
"""Of a project (https://firebase.google.com/docs/projects/learn-more)."""


class Firebase:
    """State and routes.

    Attributes:
        web_apps: by Firebase's id of each, its name.
        polls: how often an operation is asked for before it is done. One that is never asked for goes on by itself, and
            is done at the next request that is about something else.
    """

    def __init__(self, project: str, account: Project) -> None:
        self.project = project
        self.web_apps: dict[str, str] = {}
        self.polls = 1
        self._account = account
        self._running: dict[str, tuple[int, Any]] = {}

    def routes(self) -> list[Route]:
        """Every route."""
        projects = f"{_API}/projects/([^/:]+)"
        return [
            Route("GET", projects, self._get, "firebase.projects.get"),
            Route("POST", f"{projects}:addFirebase", self._add, "firebase.projects.update"),
            Route("GET", f"{projects}/webApps", self._list, "firebase.clients.list"),
            Route("POST", f"{projects}/webApps", self._create, "firebase.clients.create"),
            Route("GET", f"{projects}/webApps/([^/]+)/config", self._config, "firebase.clients.get"),
            Route("GET", rf"{_API}/(operations/workflows/\d+)", self._operation, "firebase.projects.get"),
        ]

    def key(self, app: str) -> str:
        """The API key of a web app, by its name."""
        found = next(found for found, name in self.web_apps.items() if name == app)
        return f"AIza-key-of-{found.rpartition(':')[2]}"

    def _get(self, _: Call, project: str) -> Any:
        self._check(project)
        return {"projectId": project, "projectNumber": "1234", "state": "ACTIVE", "resources": {}}

    def _check(self, project: str) -> None:
        self._end_all()
        if project != self.project:
            raise Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")
        if not self._account.firebase:
            raise not_found(f"Firebase project {project}")

    def _add(self, _: Call, __: str) -> Any:
        self._end_all()
        if self._account.firebase:
            raise Refusal(409, "ALREADY_EXISTS", "Requested entity already exists")

        def end() -> dict[str, Any]:
            self._account.firebase = True
            return {"projectId": self.project, "projectNumber": "1234", "state": "ACTIVE"}

        return self._begin(end)

    def _list(self, _: Call, project: str) -> Any:
        self._check(project)
        return {"apps": [self._shown(app) for app in self.web_apps]} if self.web_apps else {}

    def _create(self, call: Call, project: str) -> Any:
        self._check(project)
        if len(self.web_apps) == _MOST_APPS:
            raise Refusal(429, "RESOURCE_EXHAUSTED", f"The project has {_MOST_APPS} apps, which is the most.")
        name = call.json["displayName"]

        def end() -> dict[str, Any]:
            app = f"1:1234:web:{len(self.web_apps) + 1:06x}"
            self.web_apps[app] = name
            return self._shown(app)

        return self._begin(end)

    def _shown(self, app: str) -> dict[str, Any]:
        name = f"projects/{self.project}/webApps/{app}"
        return {"name": name, "appId": app, "displayName": self.web_apps[app], "projectId": self.project}

    def _config(self, _: Call, project: str, app: str) -> Any:
        self._check(project)
        if app not in self.web_apps:
            raise not_found(app)
        return {
            "projectId": self.project,
            "appId": app,
            "storageBucket": f"{self.project}.firebasestorage.app",
            "apiKey": self.key(self.web_apps[app]),
            "authDomain": f"{self.project}.firebaseapp.com",
            "messagingSenderId": "1234",
            "projectNumber": "1234",
            "version": "2",
        }

    def _begin(self, end: Any) -> dict[str, Any]:
        name = f"operations/workflows/{len(self._running) + 1}"
        self._running[name] = (self.polls, end)
        return {"name": name}

    def _operation(self, _: Call, name: str) -> Any:
        if name not in self._running:
            raise not_found(name)
        left, end = self._running[name]
        if left > 0:
            self._running[name] = (left - 1, end)
            return {"name": name}
        return {"name": name, "done": True, "response": self._end(name)}

    def _end(self, name: str) -> Any:
        _, end = self._running[name]
        response = end() if callable(end) else end
        self._running[name] = (0, response)
        return response

    def _end_all(self) -> None:
        for name in self._running:
            self._end(name)
