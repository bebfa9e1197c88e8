"""The list of what a run makes, written to disk before each thing is made, so that a kill leaves nothing unknown."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from firelaunch.errors import SettingsError

__all__ = ["LABEL", "Manifest", "Resource", "find_manifest", "manifest_folder", "new_run"]

LABEL = "firelaunch-verify"
"""Key of the label (for an API key, the annotation) that names the run."""

_RUN = re.compile(r"[0-9a-f]{8}")

State = Literal["planned", "made", "removed"]


@dataclass(slots=True)
class Resource:
    """One thing that a run makes. ``kind`` is a key of :data:`.resources.KINDS`, ``name`` the full name of its API."""

    kind: str
    name: str
    state: State = "planned"


@dataclass(slots=True)
class Manifest:
    """The list of what one run makes and changes. Each entry is on disk before Google gets the request.

    Args:
        path: of the file.
        run: eight hexadecimal digits; the throw-away app is ``verify-RUN``.
        number: of the project.
        shared: whether the project holds other apps, so that nothing of the project as a whole may change.
        changes: what was changed in the project as a whole, and stays.
    """

    path: Path
    run: str
    project: str
    region: str
    number: str = ""
    shared: bool = False
    begun: str = ""
    resources: list[Resource] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    @property
    def app(self) -> str:
        """Id of the throw-away app."""
        return f"verify-{self.run}"

    def plan(self, kind: str, name: str) -> Resource:
        """Note what is about to be made; it is on disk when this returns."""
        for resource in self.resources:
            if (resource.kind, resource.name) == (kind, name):
                resource.state = "planned"
                break
        else:
            resource = Resource(kind, name)
            self.resources.append(resource)
        self.save()
        return resource

    def set_state(self, resource: Resource, state: State) -> None:
        """Note how far a resource is."""
        resource.state = state
        self.save()

    def change(self, what: str) -> None:
        """Note a change to the project as a whole that stays."""
        if what not in self.changes:
            self.changes.append(what)
            self.save()

    def left(self) -> list[Resource]:
        """The resources that were not removed yet."""
        return [resource for resource in self.resources if resource.state != "removed"]

    def save(self) -> None:
        """Write the file so that a crash leaves the old one or the new one, whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = {key: value for key, value in asdict(self).items() if key != "path"}
        aside = self.path.with_suffix(".new")
        with aside.open("w", encoding="utf-8") as out:
            json.dump(data, out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        aside.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            SettingsError: the file is none.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            resources = [Resource(**_texts(item, ("kind", "name", "state"))) for item in data.pop("resources")]
            made = cls(path=path, resources=resources, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(f"{path} is no manifest of firelaunch verify ({error}).") from None
        if not isinstance(made.run, str) or not _RUN.fullmatch(made.run):
            raise SettingsError(f"{path} is no manifest of firelaunch verify: its run is {made.run!r}.")
        return made


def manifest_folder(environ: Mapping[str, str]) -> Path:
    """Where manifests are kept: ``$XDG_STATE_HOME`` or ``~/.local/state``, then ``firelaunch/verify``."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "state")
    return Path(state) / "firelaunch" / "verify"


def find_manifest(run: str, environ: Mapping[str, str]) -> Path:
    """The manifest that ``--clean`` names, by its file or its run.

    Raises:
        SettingsError: there is none; the message names those that are there.
    """
    if Path(run).is_file():
        return Path(run)
    folder = manifest_folder(environ)
    found = folder / f"{run.removeprefix('verify-')}.json"
    if found.is_file():
        return found
    there = sorted(path.stem for path in folder.glob("*.json"))
    known = f"There are: {', '.join(there)}." if there else "There is none."
    raise SettingsError(f"No run {run!r} in {folder}. {known}")


def new_run(project: str, region: str, environ: Mapping[str, str], *, shared: bool, run: str = "") -> Manifest:
    """Begin a run under a random id; its manifest is on disk."""
    run = run or secrets.token_hex(4)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    made = Manifest(manifest_folder(environ) / f"{run}.json", run, project, region, shared=shared, begun=begun)
    made.save()
    return made


def _texts(item: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: item[name] for name in names}
