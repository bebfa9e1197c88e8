"""An app on the Firestore emulator, under the rules that a deploy puts in force, for the tests of apps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from firelaunch.settings.app import Settings
from firelaunch.testing.emulator import Emulator
from firelaunch.text_file import read_text_file

from .rules.compose import compose
from .rules.fragment import Fragment

__all__ = ["FirestoreApp", "base_rules"]


@dataclass(frozen=True, slots=True)
class FirestoreApp:
    """An app's project on the emulator: empty, and its own.

    Attributes:
        environ: what the app's ``create_app`` takes to run there; add ``FIRELAUNCH_DATA`` for its local files.
        root: the path below which the app's documents are.
    """

    emulator: Emulator
    project: str
    database: str
    app: str

    @classmethod
    def start(cls, emulator: Emulator, project: str, folder: Path) -> Self:
        """Put the base rules and the app's own in force.

        Args:
            project: an id that nothing has used before; the fixture ``firestore_project`` gives one.
            folder: the app's.

        Raises:
            CompositionRefused: the app's ``firestore.rules`` reach out of the app; each line says what to do.
            RulesError: they do not compile.
        """
        settings = Settings.load(folder / "firelaunch.toml", {})
        own = folder / "firestore.rules"
        fragments = [Fragment(settings.app.id, str(own), read_text_file(own))] if own.is_file() else []
        database = settings.database
        emulator.load_rules(project, compose(read_text_file(base_rules()), fragments).text, database)
        return cls(emulator, project, database, settings.app.id)

    @property
    def environ(self) -> dict[str, str]:
        """The app's variables."""
        return {
            "FIRELAUNCH_MODE": "emulators",
            "FIRESTORE_EMULATOR_HOST": self.emulator.host,
            "GOOGLE_CLOUD_PROJECT": self.project,
        }

    @property
    def root(self) -> str:
        """Where the app's documents are."""
        return f"apps/{self.app}"

    def browser(self, uid: str | None, role: str | None = "member") -> Any:
        """The real Firestore client as a page in a user's browser has it, bound by the rules.

        Args:
            uid: None for somebody who has not signed in.
            role: in the app; None for somebody who has not joined it.
        """
        claims = None if uid is None else {"sub": uid, "apps": {} if role is None else {self.app: role}}
        return self.emulator.client_as(self.project, claims, self.database)


def base_rules() -> Path:
    """The rules of all apps: in an installed firelaunch beside the composer, in a clone at the top of the repo."""
    here = Path(__file__).resolve()
    inside = here.parent / "rules" / "firestore.rules"
    return inside if inside.is_file() else here.parents[4] / "firestore.rules"
