"""Say what a started app declares that a deploy has to set up. ``firelaunch deploy`` runs this in the app's process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .app import App

__all__ = ["declarations"]


def declarations(app: App) -> dict[str, Any]:
    """Return the app's composite indexes, the triggers of its handlers, and its public routes, as JSON has them."""
    declared, indexes = app.declared, []
    if declared.collections:
        from ..records.collection import composite_indexes

        indexes = [index.definition() for index in composite_indexes(declared.collections)]
    triggers = app.background.events.triggers if app.background else []
    routes = [route for routes in declared.routes for route in routes.routes if route.public]
    return {
        "indexes": indexes,
        "triggers": [asdict(trigger) for trigger in triggers],
        "public_routes": [f"{route.method.upper()} {route.path}" for route in routes],
    }
