"""The routes, collections, jobs and events that an app declares as its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..api.routes import Routes

if TYPE_CHECKING:
    from ..records.collection import Collection

__all__ = ["Declared"]


@dataclass(frozen=True, slots=True)
class Declared:
    """The arguments that :class:`~firelaunch.server.app.App` was given. ``init_app`` checks and uses them."""

    routes: tuple[Routes, ...] = ()
    collections: tuple[Collection[Any], ...] = ()
    jobs: tuple[Any, ...] = ()
    events: tuple[Any, ...] = ()
    mcp: tuple[Any, ...] = ()
