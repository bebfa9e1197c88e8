"""One run: look, deploy the throw-away app, prove, and remove it, whatever happened in between."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from firelaunch.text_file import read_text_file

from ..deploy.build_folder import Staged, StageError, stage_app, stage_functions
from ..deploy.gcloud import CommandFailed, Tools
from ..deploy.plan import describe, describe_command
from ..deploy.rehearsal import release_prompts
from ..deploy.release import Release
from ..deploy.resources import Service
from ..deploy.smoke import smoke_app, smoke_function
from ..deploy.steps import Step, perform
from .access import Access, caller
from .manifest import Manifest
from .neighbours import apps_of, remains_of
from .proofs import PROOFS, Proof
from .proving import Proving, Unproved
from .removal import Left, remove
from .report import ProofOutcome, ProofResult
from .resources import place_of
from .throwaway import ThrowAway

__all__ = ["Run", "chosen", "interruptible"]

Doing = Callable[[str], AbstractContextManager[list[str]]]
"""Shows that a step begins; what its block puts into the list is said when it ends."""

_WHY = {
    "impersonation": "iamcredentials.googleapis.com is off, and a shared project's APIs are not changed",
    "keys": "apikeys.googleapis.com is off, and a shared project's APIs are not changed",
    "users": "Firebase Authentication is not set up, and a shared project's is not changed",
    "rules": "a shared project's rules are not changed",
}


def chosen(names: Collection[str]) -> list[Proof]:
    """The proofs of these names, with those that leave something to them; all where there are none.

    Raises:
        KeyError: there is no such proof.
    """
    known = {proof.name: proof for proof in PROOFS}
    wanted = set(names or known)
    for name in names:
        wanted |= {*known[name].after}
    return [proof for proof in PROOFS if proof.name in wanted]


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Run:
    """One run of verify.

    Args:
        tools: note in the manifest what they make.
        bare: note nothing; for the removal.
        doing: shows what is being done.
        say: shows a line.
        clock: seconds, of which differences are taken.
    """

    manifest: Manifest
    tools: Tools
    bare: Tools
    doing: Doing
    say: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic

    def look(self) -> None:
        """See that the project is there and may be used; its number is in the manifest then.

        Raises:
            CommandFailed: it is not, or holds other apps.
        """
        project = self.manifest.project
        self.tools.check_installed()
        perform(describe(project), self.tools, lambda _: False)
        self.manifest.number = str(self.tools.read(describe_command(project))["projectNumber"])
        self.manifest.save()
        place = place_of(self.manifest)
        for run in remains_of(self.tools, place):
            self.say(f"another run is in {project}, going on or broken off: firelaunch verify {project} --clean {run}")
        if self.manifest.shared:
            return
        apps = apps_of(self.tools, place)
        if apps:
            raise CommandFailed(
                f"{project} holds other firelaunch apps: {', '.join(apps)}",
                "use a project without any: gcloud projects create; or pass --in-shared-project, which changes "
                "nothing that they share and skips the proofs that would",
            )

    def deploy(self, app: ThrowAway, scratch: Path) -> Proving:
        """Deploy the app.

        Args:
            scratch: a folder for what is staged, as long as proofs run.

        Raises:
            CommandFailed: it could not be deployed.
        """
        lacks = self._lacking(app)
        return self._deploy(app, lacks, scratch)

    def prove(self, proving: Proving, proofs: Sequence[Proof], outcome: ProofOutcome) -> None:
        """Run the proofs; results are in ``outcome`` one by one, also when this is broken off."""
        failed: set[str] = set()
        for proof in proofs:
            result = self._result(proof, proving, failed)
            if result.result != "passed":
                failed.add(proof.name)
            outcome.results.append(result)

    def remove(self) -> list[Left]:
        """Remove what the run made; what is left."""
        with self.doing("remove what the run made") as said:
            removed = list[str]()
            left = remove(self.bare, self.manifest, removed.append)
            said.append(f"{len(removed)} removed" + (f", {len(left)} left" if left else ""))
        for each in left:
            self.say(f"left: {each}")
        return left

    def _lacking(self, app: ThrowAway) -> dict[str, str]:
        """Return the needs that cannot be met, each with the reason. In a project of the run's own all are met."""
        for step in app.looked_at():
            self._perform(step)
        if not self.manifest.shared:
            for step in app.for_proofs().values():
                self._perform(step)
            return {}
        lacks = {"rules": _WHY["rules"]}
        for need, step in app.for_proofs().items():
            if list(step.lacks(step.answers(self.tools))):
                lacks["users" if need == "keys" else need] = _WHY[need]
        return lacks

    def _deploy(self, app: ThrowAway, lacks: Mapping[str, str], scratch: Path) -> Proving:
        release_prompts(app.folder)
        for step in app.made(caller(self.tools, self.manifest.project), lacks):
            self._perform(step)
        self._perform(app.built())
        functions = app.functions.service
        staged = self._release(app, app.service, lambda: stage_app(app.root, app.folder, scratch / "app"))
        self._release(app, functions, lambda: stage_functions(app.root, scratch / "functions", app.folder))
        for step in app.watched():
            self._perform(step)
        proving = Proving(
            manifest=self.manifest,
            settings=app.settings,
            tools=self.tools,
            access=Access(self.tools, self.manifest),
            app_url=self._url(app, app.service),
            functions_url=self._url(app, functions),
            release=lambda more: self._releases(app, app.service, more),
            indexes=json.loads(read_text_file(app.root / "firestore.indexes.json")),
            lacks=lacks,
            clock=self.clock,
        )
        proving.memory["staged"] = staged
        return proving

    def _release(self, app: ThrowAway, service: Service, stage: Callable[[], Staged]) -> Staged:
        with self.doing(f"deploy {service.name}"):
            try:
                staged = stage()
            except StageError as error:
                raise CommandFailed(str(error), "mend what it says") from None
            self._releases(app, service).deploy(staged)
            return staged

    def _releases(self, app: ThrowAway, service: Service, more: tuple[str, ...] = ()) -> Release:
        refusal = service.refusal

        def smoke(url: str) -> str | None:
            if refusal:
                return smoke_function(url, refusal, pause=self.tools.pause)
            return smoke_app(url, service.name, pause=self.tools.pause)

        return Release(self.tools, app.place, service, smoke, more)

    def _url(self, app: ThrowAway, service: Service) -> str:
        live = self._releases(app, service).live()
        if live is None:
            raise CommandFailed(f"{service.name} is not there after its deploy", "run the same command again")
        return live.url

    def _perform(self, step: Step) -> None:
        with self.doing(step.title) as said:
            said.append("done" if perform(step, self.tools, lambda _: True) else "ok")

    def _result(self, proof: Proof, proving: Proving, failed: set[str]) -> ProofResult:
        reason = next((proving.lacks[need] for need in proof.needs if need in proving.lacks), "")
        reason = reason or next((f"it takes what {name} leaves" for name in proof.after if name in failed), "")
        if reason:
            return ProofResult(proof.name, proof.shows, "skipped", seen=reason)
        begun = self.clock()
        with self.doing(f"prove that {proof.shows}") as said:
            try:
                seen = proof.run(proving)
            except Unproved as error:
                said.append("failed")
                end = {"seen": error.seen, "expected": error.expected, "where": error.where}
                return ProofResult(proof.name, proof.shows, "failed", self.clock() - begun, **end)
            except Exception as error:
                said.append("failed")
                mend = getattr(error, "mend", proving.logs)
                seen = f"{type(error).__name__}: {error}"[:500]
                return ProofResult(proof.name, proof.shows, "failed", self.clock() - begun, seen, "no error", mend)
            said.append("passed")
            return ProofResult(proof.name, proof.shows, "passed", self.clock() - begun, seen)
