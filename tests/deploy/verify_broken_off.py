"""``firelaunch verify`` by its command line, in a project with an app of a similar name: whole, and broken off.

``make test-deploy`` runs it after the deploys: a run is interrupted by SIGINT and killed by SIGKILL after so many
requests; its removal, or ``--clean``, then leaves the project as it was, to the byte. Figures are in build/verify.json.
Exit 1 where anything does not hold, 2 where no project can be played.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import Emulator
from support import ROOT

from .google_here import why_not_here
from .played_project import PlayedProject
from .world import gcloud_is_there

STEPS = (25, 45, 70, 95, 125, 160)
"""Requests after which a run is broken off."""


@dataclass
class Report:
    """One scenario: what held, and for how long it went on."""

    name: str
    problems: list[str]
    seconds: float


class Scenarios:
    """A project with a real app, for one run after the other."""

    def __init__(self, folder: Path, project: PlayedProject) -> None:
        self.folder = folder
        self.project = project
        project.deployed_before()
        self.neighbour("verify-shop")
        self.neighbour("verify-1a2b3c4d-shop")
        self._environ = project.environ(folder / "home")
        self._manifests = folder / "home" / ".local" / "state" / "firelaunch" / "verify"

    def neighbour(self, app: str) -> None:
        """A real app, with a label of its own and one that names another run."""
        cloud, project = self.project.cloud, self.project.project
        region = f"projects/{project}/locations/europe-west1"
        labels = {"team": "shop", "firelaunch-verify": "not-a-run"}
        known = {"cloud.googleapis.com/location": "europe-west1", **labels}
        nothing: dict[str, Any] = {"traffic": []}
        for name in (app, f"fl-fn-{app}"):
            metadata = {"name": name, "labels": known, "resourceVersion": "v1", "generation": 1}
            kind = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
            template = {"metadata": {}, "spec": {"containers": [{"image": "x"}]}}
            spec = {**nothing, "template": template}
            cloud.run.services[name] = {
                **kind,
                "metadata": metadata,
                "spec": spec,
                "status": {**nothing, "conditions": []},
            }
            cloud.account.packages.add(f"{region}/repositories/cloud-run-source-deploy/packages/{name}")
        for kind_of in ("app", "job"):
            email = f"fl-{kind_of}-{app}"[:30] + f"@{project}.iam.gserviceaccount.com"
            cloud.account.accounts.append(email)
            binding = {"role": "roles/datastore.user", "members": [f"serviceAccount:{email}"]}
            cloud.account.policy["bindings"].append(binding)
        database = {"name": f"projects/{project}/databases/{app}", "locationId": "europe-west1"}
        cloud.firestore.databases[app] = {**database, "type": "FIRESTORE_NATIVE"}
        cloud.firestore.release(f"cloud.firestore/{app}", f"// {app}\nservice cloud.firestore {{}}\n")
        cloud.work.queues[f"{region}/queues/{app}"] = {"name": f"{region}/queues/{app}", "state": "RUNNING"}
        cloud.work.policies[f"{region}/queues/{app}"] = {"etag": "BwAAAAAA", "bindings": []}
        cloud.work.jobs[f"{region}/jobs/{app}-sweep"] = {"name": f"{region}/jobs/{app}-sweep"}
        topic = f"projects/{project}/topics/firelaunch-uploads-{app}"
        cloud.events.topics[topic] = {"name": topic, "labels": labels}
        cloud.events.policies[topic] = {"etag": "BwAAAAAA", "bindings": []}
        subscription = f"projects/{project}/subscriptions/fl-uploads-{app}"
        cloud.events.subscriptions[subscription] = {"name": subscription, "topic": topic, "labels": labels}
        cloud.build.buckets.add(f"{project}-{app}")
        cloud.build.labels[f"{project}-{app}"] = labels
        cloud.build.objects_of(f"{project}-{app}")["apps/a"] = b"a"
        sources = f"run-sources-{project}-europe-west1"
        cloud.build.buckets.add(sources)
        cloud.build.objects_of(sources)[f"services/{app}/1.zip"] = b"source"
        cloud.users.claims[f"{app}-ada"] = {"apps": {app: "admin"}}

    def state(self) -> str:
        """All that the project holds; etags and what was deleted and can still be looked at are left out."""
        cloud = self.project.cloud
        kept = {
            "run": (cloud.run.services, cloud.run.policies),
            "packages": sorted(cloud.account.packages),
            "accounts": (cloud.account.accounts, cloud.account.account_policies, cloud.account.policy["bindings"]),
            "apis": sorted(cloud.account.apis),
            "sign-in": cloud.sign_in.config,
            "firestore": (cloud.firestore.databases, cloud.firestore.releases, cloud.firestore.rulesets),
            "indexes": {name: found for name, found in cloud.firestore.indexes.items() if found},
            "work": (cloud.work.queues, cloud.work.policies, cloud.work.jobs),
            "events": (cloud.events.topics, cloud.events.policies, cloud.events.subscriptions, cloud.events.triggers),
            "buckets": {name: cloud.build.objects_of(name) for name in sorted(cloud.build.buckets)},
            "labels": cloud.build.labels,
            "users": cloud.users.claims,
            "keys": [name for name, key in cloud.credentials.keys.items() if "deleteTime" not in key],
        }
        return json.dumps(copy.deepcopy(kept), default=repr, sort_keys=True, indent=1)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """``firelaunch verify`` in a session of its own."""
        command = [sys.executable, "-m", "firelaunch_cli", "verify", self.project.project, *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def whole(self) -> Iterator[tuple[str, bool]]:
        """A run to its end, in a shared project."""
        before, target = self.state(), self.folder / "out.json"
        run = self.start("--in-shared-project", "--yes", "--json", str(target))
        said, _ = run.communicate(timeout=900)
        yield f"it holds: {said[-3000:]}", run.returncode == 0
        data = json.loads(target.read_text())
        results = {proof["name"]: proof["result"] for proof in data["proofs"]}
        skipped = [name for name, result in results.items() if result != "passed"]
        yield f"rules alone are skipped: {skipped}", skipped == ["rules"]
        yield f"nothing of the project as a whole was changed: {data['stays']}", data["stays"] == []
        changed = [each for each in self.project.cloud.requests if _changes_all(each)]
        yield f"and nothing was tried: {changed}", changed == []
        yield from self.unchanged(before)

    def broken_off(self, at: int, how: signal.Signals) -> Iterator[tuple[str, bool]]:
        """A run that ends after ``at`` requests."""
        before, begun = self.state(), len(self.project.cloud.requests)
        run = self.start("--in-shared-project", "--yes")
        while run.poll() is None and len(self.project.cloud.requests) - begun < at:
            time.sleep(0.005)
        yield f"it still ran after {at} requests", run.poll() is None
        if how is signal.SIGKILL:
            os.killpg(run.pid, how)
        else:
            os.kill(run.pid, how)
        said, _ = run.communicate(timeout=300)
        newest = max(self._manifests.glob("*.json"), key=lambda path: path.stat().st_mtime)
        if how is signal.SIGKILL:
            clean = self.start("--clean", newest.stem)
            said, _ = clean.communicate(timeout=300)
            yield f"--clean leaves nothing: {said[-1000:]}", clean.returncode == 0
        else:
            yield f"it says that it was interrupted: {said[-1000:]}", run.returncode == 130 and "nterrupted" in said
        left = [each for each in json.loads(newest.read_text())["resources"] if each["state"] != "removed"]
        yield f"all of the manifest is removed: {left}", left == []
        yield from self.unchanged(before)

    def unchanged(self, before: str) -> Iterator[tuple[str, bool]]:
        """The project is as it was."""
        after = self.state()
        differ = [line for line in after.splitlines() if line not in before.splitlines()][:8]
        yield f"the project is as it was, to the byte: {differ}", after == before
        yield (
            f"nothing was asked that is not played: {self.project.cloud.unexpected}",
            not self.project.cloud.unexpected,
        )


def _changes_all(request: str) -> bool:
    method, _, where = request.partition(" ")
    shared = ("serviceusage.", "firebaserules.", "firebase.googleapis.com")
    return method != "GET" and (where.startswith(shared) or "identityPlatform" in where or "/(default)/" in where)


def main() -> int:
    """Play everything."""
    problem = why_not_here() or (None if gcloud_is_there() else "gcloud is not on the PATH")
    if problem:
        sys.stderr.write(f"no project can be played here: {problem}\n")
        return 2
    reports: list[Report] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        emulator = stack.enter_context(Emulator.start())
        played = PlayedProject(Path(folder) / "played", emulator, f"demo-{time.time_ns() % 10**9}")
        project = stack.enter_context(played)
        scenarios = Scenarios(Path(folder), project)
        plays = {"a whole run in a shared project": scenarios.whole()}
        for number, at in enumerate(STEPS):
            how = (signal.SIGINT, signal.SIGKILL)[number % 2]
            plays[f"{how.name} after {at} requests"] = scenarios.broken_off(at, how)
        for name, play in plays.items():
            if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                continue
            begun = time.monotonic()
            problems = [what for what, holds in play if not holds]
            reports.append(Report(name, problems, time.monotonic() - begun))
            held = "holds" if not problems else "does not hold"
            sys.stdout.write(f"{name}: {held}, {reports[-1].seconds:.0f} s\n")
            sys.stdout.write("".join(f"  {problem}\n" for problem in problems))
            sys.stdout.flush()
    figures = {report.name: "does not hold" if report.problems else "holds" for report in reports}
    target = ROOT / "build" / "verify.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if any(report.problems for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
