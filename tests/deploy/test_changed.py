"""What continuous integration deploys: apps that differ from their live revisions, by the real gcloud and real gits."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from firelaunch.deploy.commits import COMMIT, SHARED_COMMIT, compared, sources_of
from firelaunch.testing.google import GoogleCloud
from support import PYTHON, ROOT, clean_environ

from .world import gcloud_is_there

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

REGION = "europe-west1"


def git(folder: Path, *command: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *name, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """A commit that writes files; ``__`` in a name stands for a slash, and a dot for itself."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Ci:
    """A repository with two apps, and a project in which they are deployed."""

    repo: Path
    cloud: GoogleCloud
    environ: dict[str, str]
    said: str = ""
    traffic: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def push(self, **files: str) -> str:
        return commit(self.repo, **files)

    def changed(self, *more: str, repo: Path | None = None) -> list[str]:
        """What the workflow would deploy now."""
        command = [PYTHON, str(ROOT / "tools" / "changed_apps.py"), "--live", *more]
        done = subprocess.run(
            command, cwd=repo or self.repo, env=self.environ, capture_output=True, text=True, check=True
        )
        self.said = done.stderr
        found: list[str] = json.loads(done.stdout)
        return found

    def deploy(self, app: str, *, fails: bool = False, **labels: str) -> str:
        """A revision of the files here, as a deploy labels it; it gets the traffic unless it fails. Its name."""
        labels = labels or sources_of(self.repo, self.repo / "apps" / app).labels
        name = f"{app}-{len(self.cloud.run.revisions) + 1:05d}-abc"
        made = f"2026-01-01T00:00:{len(self.cloud.run.revisions):02d}.000000Z"
        self.cloud.run.revisions[name] = {"metadata": {"name": name, "labels": labels, "creationTimestamp": made}}
        targets = self.traffic.get(app, [])
        before = [target["revisionName"] for target in targets if target.get("percent")]
        if fails:
            targets = [*(each for each in targets if each.get("percent")), {"revisionName": name, "tag": "candidate"}]
        else:
            tagged: list[dict[str, object]] = [{"revisionName": each, "tag": "previous"} for each in before]
            targets = [{"revisionName": name, "percent": 100}, *tagged]
        self._serve(app, targets, name)
        return name

    def roll_back(self, app: str) -> None:
        """As ``firelaunch deploy --rollback`` leaves it."""
        serving = next(target["revisionName"] for target in self.traffic[app] if target.get("percent"))
        before = next(target["revisionName"] for target in self.traffic[app] if target.get("tag") == "previous")
        latest = self.cloud.run.services[app]["status"]["latestCreatedRevisionName"]
        targets: list[dict[str, object]] = [
            {"revisionName": before, "percent": 100},
            {"revisionName": serving, "tag": "previous"},
        ]
        self._serve(app, targets, latest)

    def _serve(self, app: str, targets: list[dict[str, object]], latest: str) -> None:
        self.traffic[app] = targets
        self.cloud.run.services[app] = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": app, "namespace": "1234", "labels": {"cloud.googleapis.com/location": REGION}},
            "spec": {"template": {"metadata": {"labels": self.cloud.run.revisions[latest]["metadata"]["labels"]}}},
            "status": {"traffic": targets, "latestCreatedRevisionName": latest, "conditions": []},
        }


@pytest.fixture
def ci(tmp_path: Path) -> Iterator[Ci]:
    repo = tmp_path / "repo"
    (repo / "shared").mkdir(parents=True)
    (repo / "shared" / "x.py").write_text("")
    (repo / "firestore.rules").write_text("before")
    for app in ("one", "two"):
        (repo / "apps" / app).mkdir(parents=True)
        (repo / "apps" / app / "firelaunch.toml").write_text(
            f'[app]\nid = "{app}"\n[cloud]\nproject = "demo-project"\n'
        )
    git(repo, "init", "--quiet", "--initial-branch=main")
    commit(repo)
    with GoogleCloud() as cloud:
        cloud.account.apis.add("run.googleapis.com")
        yield Ci(repo, cloud, clean_environ(**cloud.environ(tmp_path / "home")))


def test_what_a_dropped_run_would_have_deployed_is_deployed_by_the_next_one(ci: Ci) -> None:
    assert ci.changed() == ["one", "two"], "nothing was ever deployed"
    ci.deploy("one")
    ci.deploy("two")
    ci.push(**{"README.md": "text", "apps__two__tests__test_x.py": ""})
    assert ci.changed() == []
    ci.push(**{"apps__one__app__flow.py": "second"})  # GitHub drops the run of this one
    ci.push(**{"README.md": "third"})
    assert ci.changed() == ["one"]
    assert "apps/one/app/flow.py changed" in ci.said
    ci.deploy("one")
    assert ci.changed() == []
    ci.push(**{"shared__x.py": "dropped as well"})
    ci.push(**{"apps__two__app__flow.py": "another"})
    assert ci.changed() == ["one", "two"]
    ci.deploy("two")
    assert ci.changed() == ["one"], "each app has a live commit of its own"


def test_a_revision_that_failed_is_tried_again_and_one_that_was_rolled_back_is_not(ci: Ci) -> None:
    ci.deploy("one")
    ci.deploy("two")
    ci.push(**{"apps__one__app__flow.py": "bad"})
    ci.deploy("one", fails=True)
    ci.push(**{"README.md": "text"})
    assert ci.changed() == ["one"]
    ci.deploy("one")
    ci.roll_back("one")
    assert ci.changed() == []
    assert "was rolled back" in ci.said
    ci.push(**{"README.md": "more"})
    assert ci.changed() == [], "a push that has nothing to do with it does not undo the rollback"
    ci.push(**{"apps__one__app__flow.py": "mended"})
    assert ci.changed() == ["one"]
    ci.deploy("one")
    assert ci.changed() == []


def differs(repo: Path, labels: dict[str, str], app: str = "two") -> bool:
    return compared(labels, repo, repo / "apps" / app).differs


def test_rules_that_were_changed_and_changed_back_are_deployed(ci: Ci) -> None:
    """A deploy of rules makes no revision, so that no label tells that they were deployed in between."""
    live = sources_of(ci.repo, ci.repo / "apps" / "two").labels
    ci.push(**{"firestore.rules": "open"})
    ci.push(**{"firestore.rules": "before"})
    assert differs(ci.repo, live)


def test_where_git_cannot_tell_an_app_is_deployed(ci: Ci, tmp_path: Path) -> None:
    head = git(ci.repo, "rev-parse", "HEAD")
    whole = {COMMIT: head, SHARED_COMMIT: head}
    for labels in (
        {"firelaunch-digest": "of a deploy before there were such labels"},
        {**whole, COMMIT: "none"},
        {**whole, SHARED_COMMIT: "none"},
        {**whole, COMMIT: f"{head}-dirty"},
        {**whole, COMMIT: "f" * 40},
    ):
        assert differs(ci.repo, labels), labels
    assert not differs(ci.repo, whole)
    newer = ci.push(**{"apps__two__app__flow.py": "x"})
    live = {COMMIT: newer, SHARED_COMMIT: newer}
    git(ci.repo, "reset", "--quiet", "--hard", head)
    assert not differs(ci.repo, live), "a run of an older commit does not go back"
    assert "newer" in compared(live, ci.repo, ci.repo / "apps" / "two").said
    ci.push(**{"README.md": "a force push"})
    assert differs(ci.repo, live)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{ci.repo}", "shallow")
    assert differs(tmp_path / "shallow", whole)


def test_a_project_whose_services_cannot_be_seen_is_left_to_the_deploy(ci: Ci) -> None:
    ci.deploy("one")
    ci.deploy("two")
    ci.cloud.denied = {"run.services.list"}
    assert ci.changed() == ["one", "two"]
    assert "cannot be seen" in ci.said


def test_an_app_in_a_git_of_its_own_is_compared_there(ci: Ci, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(ci.repo / "apps" / "two", own)
    git(own, "init", "--quiet", "--initial-branch=main")
    commit(own)
    git(ci.repo, "rm", "--quiet", "-r", "apps/two")
    git(ci.repo, "submodule", "--quiet", "add", str(own), "apps/two")
    ci.push()
    two = ci.repo / "apps" / "two"
    assert git(two, "rev-parse", "HEAD") != git(ci.repo, "rev-parse", "HEAD")
    live = sources_of(ci.repo, two).labels
    assert live == {COMMIT: git(two, "rev-parse", "HEAD"), SHARED_COMMIT: git(ci.repo, "rev-parse", "HEAD")}
    assert not differs(ci.repo, live)
    commit(two, **{"README.md": "text"})
    ci.push(**{"apps__one__app__flow.py": "x"})
    assert not differs(ci.repo, live)
    commit(two, **{"app__flow.py": "new"})
    assert differs(ci.repo, live)
    live = sources_of(ci.repo, two).labels
    ci.push(**{"shared__x.py": "changed"})
    assert differs(ci.repo, live)
    listed = subprocess.run(
        [PYTHON, str(ROOT / "tools" / "changed_apps.py"), "--all"], cwd=ci.repo, capture_output=True, check=True
    )
    assert json.loads(listed.stdout) == ["one", "two"]


def test_an_environment_is_compared_with_its_own_project(ci: Ci) -> None:
    ci.deploy("one")
    ci.deploy("two")
    text = (ci.repo / "apps" / "one" / "firelaunch.toml").read_text()
    ci.push(**{"apps__one__firelaunch.toml": f'{text}[env.staging.cloud]\nproject = "other-project"\n'})
    ci.cloud.requests.clear()
    assert ci.changed("--env", "staging") == ["one"]
    assert "two: it has no [env.staging]" in ci.said
    assert not [line for line in ci.cloud.requests if "demo-project" in line]
    with pytest.raises(subprocess.CalledProcessError):
        ci.changed("--env", "stagng")


@pytest.mark.parametrize(
    ("change", "app", "shared"),
    [
        ({}, "clean", "clean"),
        ({"apps__one__app__new.py": "untracked"}, "dirty", "clean"),
        ({"apps__one__firelaunch.toml": "changed"}, "dirty", "clean"),
        ({"apps__one__tests__x.py": "in no image"}, "clean", "clean"),
        ({"shared__x.py": "changed"}, "clean", "dirty"),
        ({"gha-creds-1.json": "of the runner"}, "clean", "clean"),
    ],
)
def test_a_label_tells_what_is_not_committed(ci: Ci, change: dict[str, str], app: str, shared: str) -> None:
    for name, text in change.items():
        path = ci.repo / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found, head = sources_of(ci.repo, ci.repo / "apps" / "one"), git(ci.repo, "rev-parse", "HEAD")
    assert found.app == head + ("-dirty" if app == "dirty" else "")
    assert found.shared == head + ("-dirty" if shared == "dirty" else "")
    assert ("not committed" in found.said) == (app == "dirty")


def test_an_app_that_git_ignores_has_no_commit_of_the_git_around_it(ci: Ci) -> None:
    ci.push(**{".gitignore": "apps/mine\n"})
    (ci.repo / "apps" / "mine").mkdir()
    (ci.repo / "apps" / "mine" / "firelaunch.toml").write_text("")
    found = sources_of(ci.repo, ci.repo / "apps" / "mine")
    assert found.app == "none"
    assert "files that git does not keep" in found.said
    git(ci.repo / "apps" / "mine", "init", "--quiet")
    assert sources_of(ci.repo, ci.repo / "apps" / "mine").app == "none", "nothing was committed yet"
    own = commit(ci.repo / "apps" / "mine")
    assert sources_of(ci.repo, ci.repo / "apps" / "mine").app == own
    shutil.rmtree(ci.repo / ".git")
    assert sources_of(ci.repo, ci.repo / "apps" / "one").labels == {COMMIT: "none", SHARED_COMMIT: "none"}
