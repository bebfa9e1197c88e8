"""Print the dry run of a deploy, a preview or a rollback, for people or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firelaunch.settings.app import Settings

from .resources import Place
from .steps import Grant, step_facts
from .summary import WIDTH

__all__ = ["DryRun"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """A plan, which was made without a login, and of which nothing was done.

    Args:
        action: "deploy", "preview" or "rollback".
        says: sentences on the whole of it.
        lines: those of :func:`.steps.explain`, of all steps.
        services: the names of those that it changes.
        page: the lines of :func:`.summary.summary`, where it has them.
        costs: each item and its micro-dollars in a month without users.
        grants: the roles that accounts have once it is done, by account.
    """

    action: str
    says: str
    lines: Sequence[str]
    services: Sequence[str]
    page: Sequence[str] = ()
    warnings: Sequence[str] = ()
    costs: Iterable[tuple[str, int]] = ()
    grants: Mapping[str, Sequence[Grant]] = field(default_factory=dict)

    def shown(self, settings: Settings, place: Place) -> str:
        """Return the plan for people: where and what, the page, and then each command."""
        name = settings.environment.name
        where = f"{place.project}, {place.region}{f', environment {name}' if name else ''}"
        heading = _filled(f"{settings.app.id} in {where}. Nothing is done now. {self.says}")
        warnings = [_filled(f"warning: {said}") for said in self.warnings]
        page = ["", *self.page] if self.page else []
        end = "Nothing was done. The summary is at the top." if self.page else "Nothing was done."
        return "\n".join([heading, *warnings, *page, "", *self.lines, "", end])

    def facts(self, settings: Settings, place: Place) -> dict[str, Any]:
        """Return the same for programs: the lines by step."""
        return {
            "app": settings.app.id,
            "environment": settings.environment.name or None,
            "project": place.project,
            "region": place.region,
            "action": self.action,
            "services": list(self.services),
            "accounts": {
                account: [{"role": each.role, "on": each.on or None} for each in grants]
                for account, grants in self.grants.items()
            },
            "warnings": list(self.warnings),
            "idle_month": [{"item": item, "cost_micro_usd": cost} for item, cost in self.costs],
            "steps": step_facts(self.lines),
        }


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
