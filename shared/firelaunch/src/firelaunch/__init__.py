"""What the AI apps of one Firebase project share: identity, isolation, metering, streaming.

These names are for apps; docs/python.md lists them. All else is internal, and may change with any version. A name is
imported when it is first asked for, so that ``import firelaunch`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.base import Body as Body
    from .api.base import PageQuery as PageQuery
    from .api.base import Path as Path
    from .api.base import admins_only as admins_only
    from .api.base import app_services as app_services
    from .api.base import caller as caller
    from .api.base import caller_services as caller_services
    from .api.base import data as data
    from .api.base import enqueue as enqueue
    from .api.base import example as example
    from .api.base import file_response as file_response
    from .api.base import need_feature as need_feature
    from .api.crud import crud as crud
    from .api.routes import Routes as Routes
    from .errors import BadRequest as BadRequest
    from .errors import Conflict as Conflict
    from .errors import FirelaunchError as FirelaunchError
    from .errors import Forbidden as Forbidden
    from .errors import NotFound as NotFound
    from .identity import Caller as Caller
    from .jobs import Kind as Kind
    from .llm.tools import Tool as Tool
    from .llm.tools import ToolError as ToolError
    from .llm.types import Chunk as Chunk
    from .llm.types import Message as Message
    from .llm.types import Source as Source
    from .paging import Page as Page
    from .rag.retrieve import Passage as Passage
    from .records.collection import Collection as Collection
    from .records.record import Record as Record
    from .records.records import RecordsTransaction as RecordsTransaction
    from .records.user_ids import UserId as UserId
    from .scope import Scope as Scope
    from .server.app import App as App
    from .server.app import init_app as init_app
    from .services.build import build as build
    from .services.bundle import Services as Services
    from .settings.app import Settings as Settings
    from .turns.guardrails import checked as checked
    from .turns.guardrails import moderated as moderated
    from .turns.turn import Turn as Turn
    from .turns.turn import Workflow as Workflow
    from .worker import Handlers as Handlers
    from .worker import JobDone as JobDone
    from .worker import JobFailed as JobFailed
    from .worker import JobRun as JobRun
    from .worker import Postponed as Postponed
    from .worker.event_handlers import UploadEvent as UploadEvent
    from .worker.event_handlers import WriteEvent as WriteEvent
    from .worker.event_handlers import on_upload as on_upload
    from .worker.event_handlers import on_write as on_write
    from .worker.job_definitions import job as job

_HOME = {
    "App": "server.app",
    "BadRequest": "errors",
    "Body": "api.base",
    "Caller": "identity",
    "Chunk": "llm.types",
    "Collection": "records.collection",
    "Conflict": "errors",
    "FirelaunchError": "errors",
    "Forbidden": "errors",
    "Handlers": "worker",
    "JobDone": "worker",
    "JobFailed": "worker",
    "JobRun": "worker",
    "Kind": "jobs",
    "Message": "llm.types",
    "NotFound": "errors",
    "Page": "paging",
    "PageQuery": "api.base",
    "Passage": "rag.retrieve",
    "Path": "api.base",
    "Postponed": "worker",
    "Routes": "api.routes",
    "Record": "records.record",
    "RecordsTransaction": "records.records",
    "Scope": "scope",
    "Services": "services.bundle",
    "Settings": "settings.app",
    "Source": "llm.types",
    "Tool": "llm.tools",
    "ToolError": "llm.tools",
    "Turn": "turns.turn",
    "UserId": "records.user_ids",
    "UploadEvent": "worker.event_handlers",
    "Workflow": "turns.turn",
    "WriteEvent": "worker.event_handlers",
    "admins_only": "api.base",
    "app_services": "api.base",
    "build": "services.build",
    "caller": "api.base",
    "caller_services": "api.base",
    "checked": "turns.guardrails",
    "crud": "api.crud",
    "data": "api.base",
    "enqueue": "api.base",
    "example": "api.base",
    "file_response": "api.base",
    "init_app": "server.app",
    "job": "worker.job_definitions",
    "moderated": "turns.guardrails",
    "need_feature": "api.base",
    "on_upload": "worker.event_handlers",
    "on_write": "worker.event_handlers",
}
"""Where each public name is defined."""

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


_MOVED = {
    "firelaunch.erasure": "firelaunch.worker.tasks.erase",
    "firelaunch.guardrails": "firelaunch.turns.guardrails",
    "firelaunch.llm.base": "firelaunch.llm.types",
    "firelaunch.notify": "firelaunch.worker.tasks.notify",
    "firelaunch.rollup": "firelaunch.worker.tasks.rollup",
    "firelaunch.serving": "firelaunch.server.gunicorn_config",
    "firelaunch.turn": "firelaunch.turns.turn",
    "firelaunch.web": "firelaunch.server.app",
    "firelaunch.wiring": "firelaunch.services.build",
}
"""Modules that the template and the docs of version 0.1 import, and where they are now. They go with version 0.3."""


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets apps from before the move of modules start, with a warning that names the fix."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - importlib's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        here = _MOVED[module.__name__]
        _warn_of_move(module.__name__, here)
        names = vars(importlib.import_module(here))
        vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})


def former_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for ``module`` that finds names of version 0.1 where they are now, with a warning.

    Args:
        names: for each former name, the full path of what it is now: "firelaunch.worker.JobDone".
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn_of_move(f"{module}.{name}", names[name])
        home, _, new = names[name].rpartition(".")
        return getattr(importlib.import_module(home), new)

    return find


def _warn_of_move(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is {new} now, and goes with version 0.3: run 'firelaunch upgrade' for your app.",
        FutureWarning,
        stacklevel=3,
    )


sys.meta_path.append(_MovedModules())
