"""What a command makes is in the manifest before it runs, and one that would touch anything else does not run."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from firelaunch_cli.deploy.gcloud import Command, CommandFailed, Request, gcloud
from firelaunch_cli.deploy.steps import Step
from firelaunch_cli.verify.manifest import Manifest
from firelaunch_cli.verify.recorder import Recorder
from firelaunch_cli.verify.resources import KINDS, rules_mark
from firelaunch_cli.verify.throwaway import ThrowAway

ROOT = Path(__file__).parents[4]
PROJECT = "demo-project"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(tmp_path / "m.json", "1a2b3c4d", PROJECT, "europe-west1", "1234")


@pytest.fixture
def recorder(manifest: Manifest, tmp_path: Path) -> Recorder:
    """With a gcloud that notes what the manifest held when it was called, and its own words."""
    fake = tmp_path / "bin" / "gcloud"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\ncp {manifest.path} {tmp_path}/then.json 2>/dev/null\nprintf "%s\\n" "$@" > {tmp_path}/said\n'
    )
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return Recorder(manifest, {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}, lambda _: None, token="t")


def command(*words: str) -> Command:
    return gcloud(*words, project=PROJECT)


def test_a_thing_is_on_disk_before_the_command_that_makes_it_runs(recorder: Recorder, tmp_path: Path) -> None:
    recorder.run(command("tasks", "queues", "create", "verify-1a2b3c4d", "--location=europe-west1"))
    then, now = (Manifest.load(tmp_path / name) for name in ("then.json", "m.json"))
    name = "projects/demo-project/locations/europe-west1/queues/verify-1a2b3c4d"
    assert [(each.kind, each.name, each.state) for each in then.resources] == [("queue", name, "planned")]
    assert [each.state for each in now.resources] == ["made"]


def test_a_command_that_fails_leaves_the_thing_planned(recorder: Recorder, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "bin" / "gcloud").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(CommandFailed):
        recorder.run(command("firestore", "databases", "create", "--database=verify-1a2b3c4d"))
    assert [each.state for each in manifest.left()] == ["planned"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (
            ("pubsub", "topics", "create", "firelaunch-uploads-demo-project-verify-1a2b3c4d"),
            "--labels=firelaunch-verify=",
        ),
        (("pubsub", "subscriptions", "create", "fl-uploads-verify-1a2b3c4d"), "--labels=firelaunch-verify="),
        (
            ("eventarc", "triggers", "create", "fl-removals-verify-1a2b3c4d", "--location=europe-west1"),
            "--labels=firelaunch-verify=",
        ),
        (("run", "deploy", "fl-fn-verify-1a2b3c4d", "--labels=a=b"), "--labels=a=b,firelaunch-verify="),
    ],
)
def test_what_takes_labels_gets_the_runs(recorder: Recorder, tmp_path: Path, words: tuple[str, ...], flag: str) -> None:
    recorder.run(command(*words))
    assert f"{flag}1a2b3c4d" in (tmp_path / "said").read_text().splitlines()


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "queues", "create", "verify-1a2b3c4d-shop", "--location=europe-west1"),
        ("run", "deploy", "shop", "--labels=a=b"),
        ("run", "services", "update-traffic", "shop"),
        ("firestore", "databases", "create", "--database=(default)"),
        ("firestore", "databases", "delete", "--database=verify-1a2b3c4d"),
        ("iam", "service-accounts", "add-iam-policy-binding", "fl-app-shop@demo-project.iam.gserviceaccount.com"),
        ("storage", "buckets", "update", "gs://demo-project.firebasestorage.app"),
        ("storage", "buckets", "notifications", "create", "gs://demo-project.firebasestorage.app"),
        ("sql", "instances", "create", "verify-1a2b3c4d"),
        ("projects", "delete", "demo-project"),
    ],
)
def test_a_command_that_touches_what_is_not_the_runs_or_is_not_known_does_not_run(
    recorder: Recorder, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with pytest.raises(CommandFailed, match="does not know what this makes"):
        recorder.run(command(*words))
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        (
            "POST",
            "firebaserules.googleapis.com/v1/projects/demo-project/rulesets",
            {"source": {"files": [{"content": "x"}]}},
        ),
        (
            "PATCH",
            "firebaserules.googleapis.com/v1/projects/demo-project/releases/cloud.firestore",
            {"release": {"name": "projects/demo-project/releases/cloud.firestore", "rulesetName": "r"}},
        ),
        (
            "POST",
            "firestore.googleapis.com/v1/projects/demo-project/databases/(default)/collectionGroups/x/indexes",
            {},
        ),
        ("PATCH", "firestore.googleapis.com/v1/projects/demo-project/databases/shop/documents/apps/shop", {}),
        ("POST", "storage.googleapis.com/storage/v1/b?project=demo-project", {"name": "demo-project-shop"}),
        ("DELETE", "run.googleapis.com/v2/projects/demo-project/locations/r/services/verify-1a2b3c4d", None),
        ("POST", "iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x@y:generateAccessToken", {}),
    ],
)
def test_a_request_that_touches_what_is_not_the_runs_is_not_sent(
    recorder: Recorder, method: str, url: str, body: dict[str, Any] | None
) -> None:
    with pytest.raises(CommandFailed, match="does not know what this makes"):
        recorder.request(Request(method, f"https://{url}", body))


@pytest.mark.parametrize(
    "act",
    [
        lambda tools: tools.run(command("services", "enable", "run.googleapis.com")),
        lambda tools: tools.run(command("artifacts", "repositories", "create", "cloud-run-source-deploy")),
        lambda tools: tools.run(command("iam", "service-accounts", "create", "firelaunch-build")),
        lambda tools: tools.request(
            Request("POST", "https://firebase.googleapis.com/v1beta1/projects/demo-project:addFirebase", {})
        ),
        lambda tools: tools.request(
            Request(
                "POST",
                "https://identitytoolkit.googleapis.com/v2/projects/demo-project/identityPlatform:initializeAuth",
                {},
            )
        ),
    ],
)
def test_a_shared_project_is_not_changed_as_a_whole(
    recorder: Recorder, manifest: Manifest, tmp_path: Path, act: Any
) -> None:
    manifest.shared = True
    with pytest.raises(CommandFailed, match="would change it for all apps"):
        act(recorder)
    assert not (tmp_path / "said").exists()
    assert manifest.changes == []


def actions(app: ThrowAway) -> list[Any]:
    """All that a run does in a project in which nothing was made yet."""
    steps: list[Step] = [*app.looked_at(), *app.for_proofs().values(), *app.made("user:me@example.com"), *app.watched()]
    return [action for step in steps for action in step.lacks([None] * max(len(step.looks), 1))]


def test_every_step_of_a_run_is_known_and_makes_every_kind_that_a_removal_knows(
    recorder: Recorder, manifest: Manifest, tmp_path: Path
) -> None:
    """A step that a later deploy adds is refused here first, and not in the middle of a run on Google."""
    folder = tmp_path / "app"
    folder.mkdir()
    made: set[str] = set()
    for action in actions(ThrowAway(ROOT, folder, manifest)):
        names = recorder._names
        effect = names.of_request(action) if isinstance(action, Request) else names.of_command(action)
        made |= {kind for kind, name in effect.makes if KINDS[kind].owns(manifest, name) and name}
        if isinstance(action, Request) and action.then:
            release = names.of_request(action.then({"name": "projects/demo-project/rulesets/1"}))
            made |= {kind for kind, _ in release.makes}
    app = names.of_command(command("run", "deploy", "verify-1a2b3c4d", "--labels=a=b"))
    made |= {kind for kind, _ in app.makes}
    assert made == set(KINDS) - {"user"}, "users are noted where they sign in"
    assert rules_mark(manifest).endswith("1a2b3c4d")
