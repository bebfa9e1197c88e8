"""Puts the base of all apps' Firestore rules, which lies at the top of the repo, into the wheel: apps test themselves
under it, also where they are made outside of the repo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WithRules(BuildHookInterface):  # type: ignore[type-arg]
    """The build's one hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling calls it so
        """Add the file, where there is one."""
        rules = Path(self.root).parent / "firestore.rules"
        if rules.is_file():
            build_data["force_include"][str(rules)] = "firelaunch/rules/firestore.rules"
