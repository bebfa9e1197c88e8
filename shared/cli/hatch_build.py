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
        # Two folders up in the repo; one where an app has its own copy of firelaunch in vendor/.
        for folder in (Path(self.root).parents[1], Path(self.root).parent):
            if (folder / "firestore.rules").is_file():
                build_data["force_include"][str(folder / "firestore.rules")] = "firelaunch_cli/rules/firestore.rules"
                return
