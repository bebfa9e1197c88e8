"""``firelaunch verify`` runs whole against the played Google; a proof fails where its part of the platform misbehaves.

The app and its functions are deployed once, by the real gcloud, and run here in cloud mode.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes.google.base import TOKEN
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.http import HttpAnswer
from firelaunch_cli.commands import main
from firelaunch_cli.deploy.gcloud import Tools
from firelaunch_cli.verify.manifest import Manifest, new_run
from firelaunch_cli.verify.proofs import PROOFS
from firelaunch_cli.verify.proving import Proving, Unproved
from firelaunch_cli.verify.recorder import Recorder
from firelaunch_cli.verify.report import ProofOutcome, table
from firelaunch_cli.verify.run import Run, chosen
from firelaunch_cli.verify.throwaway import ThrowAway
from support import ROOT, copy_template

from .gcloud_server import GcloudServer
from .google_here import why_not_here
from .played_project import PlayedProject
from .world import gcloud_is_there

IMPATIENT = 200
"""By how much a clock runs fast for a proof that waits for what never comes."""

OPEN_RULES = "rules_version = '2';\nservice cloud.firestore { match /{path=**} { allow read, write: if true; } }\n"


@dataclass
class Deployed:
    """A run whose app is deployed."""

    project: PlayedProject
    run: Run
    proving: Proving
    outcome: ProofOutcome


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, firestore_emulator: Emulator) -> Iterator[Deployed]:
    problem = why_not_here() or (None if gcloud_is_there() else "gcloud is not on the PATH")
    if problem:
        pytest.skip(f"no project can be played here: {problem}")
    folder = tmp_path_factory.mktemp("verify")
    with (
        PlayedProject(folder / "played", firestore_emulator, f"demo-{time.time_ns() % 10**9}") as project,
        GcloudServer(folder / "gcloud") as gcloud,
        pytest.MonkeyPatch.context() as patch,
    ):
        project.deployed_before()
        environ = project.environ(folder / "home")
        environ["PATH"] = f"{gcloud.folder}:{environ['PATH']}"
        for name in ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            patch.setenv(name, environ[name])
        manifest = new_run(project.project, "europe-west1", environ, shared=False)
        said: list[str] = []
        recorder = Recorder(manifest, environ, said.append, token=TOKEN)
        run = Run(manifest, recorder, Tools(environ, said.append, token=TOKEN), quietly, said.append)
        run.look()
        app = ThrowAway(ROOT, copy_template(folder / "app"), manifest)
        yield Deployed(project, run, run.deploy(app, folder / "staged"), ProofOutcome(manifest))


@contextmanager
def quietly(_: str) -> Iterator[list[str]]:
    yield []


def every_proof_passes(deployed: Deployed) -> None:
    proofs = [proof for proof in chosen(()) if proof.name != "erasure"]
    deployed.run.prove(deployed.proving, proofs, deployed.outcome)
    results = deployed.outcome.results
    shown = "\n".join(table(results))
    assert [result.name for result in results if result.result != "passed"] == [], shown + deployed.project.logs()
    assert deployed.project.cloud.unexpected == []


def stripped(project: PlayedProject) -> None:
    project.cloud.front.strips_signatures = True


def never_built(project: PlayedProject) -> None:
    for database, indexes in project.cloud.firestore.indexes.items():
        for index in indexes if database.startswith("verify-") else []:
            index["state"] = "CREATING"


def open_to_all(project: PlayedProject) -> None:
    (database,) = [name for name in project.cloud.firestore.databases if not name.endswith("-other")]
    project.emulator.load_rules(project.project, OPEN_RULES, database)


def no_embeddings(project: PlayedProject) -> None:
    project.here.vertex.script = [HttpAnswer(403, {}) for _ in range(20)]


def deaf(project: PlayedProject) -> None:
    project.model.pause = 0.004
    project.cloud.front.swallows = {"/stop"}
    project.cloud.front.notices_leaving = False


def held_back(project: PlayedProject) -> None:
    project.model.pause = 0.004
    project.cloud.front.buffers = True


def stuck_traffic(project: PlayedProject) -> None:
    project.cloud.run.moves_traffic = False


def unconditional(project: PlayedProject) -> None:
    project.cloud.credentials.conditions_hold = False


def losing(*kinds: str) -> Callable[[PlayedProject], None]:
    return lambda project: project.lost.update(kinds)


MISBEHAVIOUR: dict[str, tuple[Callable[[PlayedProject], None], str]] = {
    "database": (unconditional, "404|200"),
    "files": (unconditional, "200 for a list"),
    "signature": (stripped, "401"),
    "indexes": (never_built, "requires an index"),
    "rules": (open_to_all, "another user"),
    "tasks": (losing("tasks"), "it is not within"),
    "words": (no_embeddings, "lexical"),
    "vectors": (no_embeddings, "lexical"),
    "stream": (held_back, "before its first word"),
    "stop": (deaf, "went on to its end"),
    "leave": (deaf, "went on to its end|no answer was stored"),
    "storage": (losing("storage"), "none within"),
    "scheduler": (losing("scheduler"), "none within"),
    "eventarc": (losing("eventarc"), "chunks stayed"),
    "rollback": (stuck_traffic, "serves"),
    "erasure": (losing("tasks"), "chats"),
}


@contextmanager
def misbehaving(project: PlayedProject, name: str) -> Iterator[None]:
    front, indexes = project.cloud.front, project.cloud.firestore.indexes
    kept = {name: [dict(index) for index in found] for name, found in indexes.items()}
    before = vars(front).copy()
    MISBEHAVIOUR[name][0](project)
    try:
        yield
    finally:
        vars(front).update(before)
        indexes.update(kept)
        project.lost.clear()
        project.here.vertex.script = []
        project.model.pause = type(project.model).pause
        project.cloud.run.moves_traffic = project.cloud.credentials.conditions_hold = True
        for release in project.cloud.firestore.releases:
            project.played_rules(release)


def impatient(proving: Proving) -> Proving:
    return replace(proving, clock=lambda: time.monotonic() * IMPATIENT, memory=dict(proving.memory))


def a_proof_fails_where_its_part_of_the_platform_misbehaves(deployed: Deployed, name: str) -> None:
    (proof,) = [proof for proof in PROOFS if proof.name == name]
    proving = impatient(deployed.proving)
    if name == "eventarc":
        proving.memory["bakery.md"] = proving.memory.get("bakery.md") or deployed.proving.memory["letter.md"]
    with misbehaving(deployed.project, name), pytest.raises(Unproved) as unproved:
        proof.run(proving)
    assert re.search(MISBEHAVIOUR[name][1], unproved.value.seen), unproved.value
    assert unproved.value.where


def erasure_leaves_nothing_and_then_the_run_neither(deployed: Deployed) -> None:
    """Google keeps what the first deploy of any app makes; everything else is as before."""
    project, run = deployed.project, deployed.run
    outcome = ProofOutcome(run.manifest)
    run.prove(deployed.proving, chosen(["erasure"]), outcome)
    assert [result.result for result in outcome.results] == ["passed"], outcome.results
    assert run.remove() == []
    cloud = project.cloud
    left = {
        "services": cloud.run.services,
        "databases": cloud.firestore.databases,
        "rules": {**cloud.firestore.releases, **cloud.firestore.rulesets},
        "queues": cloud.work.queues,
        "schedules": cloud.work.jobs,
        "topics": {**cloud.events.topics, **cloud.events.subscriptions, **cloud.events.triggers},
        "packages": cloud.account.packages,
        "users": cloud.users.claims,
        "keys": [key for key in cloud.credentials.keys.values() if "deleteTime" not in key],
        "buckets": [bucket for bucket in cloud.build.buckets if not bucket.startswith("run-sources")],
        "objects": [name for bucket in cloud.build.buckets for name in cloud.build.objects_of(bucket)],
    }
    assert not {kind: found for kind, found in left.items() if found}
    assert [email.partition("@")[0] for email in cloud.account.accounts] == ["firelaunch-build"]
    assert "verify-" not in json.dumps(cloud.account.policy)
    assert Manifest.load(run.manifest.path).left() == []
    assert cloud.unexpected == []


def test_a_dry_run_takes_no_project_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(main, ["verify", "my-project", "--dry-run"])
    assert done.exit_code == 0, done.output
    said = done.output
    assert all(proof.name in said for proof in PROOFS)
    assert "minutes" in said
    dollars = float(said.partition("estimate: $")[2].split()[0])
    assert 0 < dollars < 1
    assert all(len(line) <= 100 for line in said.splitlines())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify"], "Name a project"),
        (["verify", "My_Project"], "Name a project"),
        (["verify", "my-project", "--only", "magic"], "There is no proof magic"),
        (["verify", "my-project", "--clean", "1a2b3c4d"], "No run '1a2b3c4d'"),
        (["verify", "my-project"], "Nobody agreed"),
    ],
)
def test_what_is_not_given_right_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done: Any = CliRunner().invoke(main, words)
    assert done.exit_code in (1, 2)
    assert said in done.output


def test_every_proof_passes_and_fails_where_its_part_misbehaves_and_nothing_is_left(deployed: Deployed) -> None:
    """One story of one deployed app, so that one worker runs it."""
    every_proof_passes(deployed)
    for name in [proof.name for proof in PROOFS]:
        a_proof_fails_where_its_part_of_the_platform_misbehaves(deployed, name)
    erasure_leaves_nothing_and_then_the_run_neither(deployed)
