"""The throw-away app: its settings, and the steps of its deploy, which are those of every other app's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from firelaunch.settings.app import Settings
from firelaunch.text_file import read_text_file

from ..deploy.data import database, indexes, indexes_built, publish, wanted_indexes
from ..deploy.events import for_uploads, notification, trigger
from ..deploy.functions import AppFunctions, app_functions
from ..deploy.gcloud import CommandFailed, Request
from ..deploy.jobs import for_work, scheduled
from ..deploy.plan import apis_are_on, for_project, for_service, preflight
from ..deploy.resources import Place, Service, app_service, features, permissions_of
from ..deploy.rules import rules
from ..deploy.sign_in import set_up
from ..deploy.steps import Step
from .access import CREDENTIALS_API, KEYS_API, api_key, may_impersonate
from .manifest import LABEL, Manifest
from .resources import bucket_of, other_database, place_of, rules_mark

__all__ = ["MORE_PERMISSIONS", "ThrowAway", "settings_text"]

MORE_PERMISSIONS: Mapping[str, str] = permissions_of(
    {
        "roles/artifactregistry.admin": "packages.delete packages.get",
        "roles/cloudscheduler.admin": "jobs.get jobs.run",
        "roles/cloudtasks.admin": "queues.delete queues.get",
        "roles/datastore.owner": "databases.delete databases.update entities.delete entities.list",
        "roles/firebaseauth.admin": "users.delete users.get",
        "roles/firebaserules.admin": "releases.delete rulesets.delete rulesets.list",
        "roles/iam.serviceAccountAdmin": "serviceAccounts.delete",
        "roles/pubsub.admin": "topics.delete topics.get subscriptions.get",
        "roles/run.admin": "services.delete",
        "roles/serviceusage.apiKeysAdmin": "apiKeys.create apiKeys.delete apiKeys.get apiKeys.getKeyString",
        "roles/storage.admin": "buckets.delete objects.delete",
    }
)
"""The permissions that a run needs besides a deploy's, mostly to remove what it made
(https://cloud.google.com/iam/docs/roles-permissions)."""

_SETTINGS = """\
# Made by firelaunch verify. The app is removed when its proofs are done.
[app]
id = "{app}"
name = "firelaunch verify"

[cloud]
project = "{project}"
region = "{region}"
database = "dedicated"
max_instances = 3

[models]
provider = "vertex"

[models.vertex]
location = "global"
chat = "gemini-3.5-flash-lite"
cheap = "gemini-3.5-flash-lite"

[index]
backend = "firestore"
embedder = "vertex"

[documents]
bucket = "{bucket}"

[membership]
join = "invite"

[prompts]
chat = 1

[limits]
max_output_tokens = 2048
on_disconnect = "stop"

[plans.free]
requests_per_minute = 60
daily_usd = "0.20"
"""
"""Gemini on Vertex AI needs no key: the app's account calls it. A user's budget of the day bounds the cost."""

_STORAGE = "https://storage.googleapis.com/storage/v1/b"


def settings_text(manifest: Manifest) -> str:
    """The throw-away app's firelaunch.toml."""
    return _SETTINGS.format(
        app=manifest.app, project=manifest.project, region=manifest.region, bucket=bucket_of(manifest)
    )


class ThrowAway:
    """One throw-away app, in its folder below ``folder``.

    Args:
        root: of the firelaunch repo.
        folder: of the app, made from the template; gets its settings here.
    """

    def __init__(self, root: Path, folder: Path, manifest: Manifest) -> None:
        self.root, self.folder, self.manifest = root, folder, manifest
        (folder / "firelaunch.toml").write_text(settings_text(manifest), encoding="utf-8")
        self.settings = Settings.load(folder / "firelaunch.toml", {})

    @property
    def place(self) -> Place:
        """Where it is deployed."""
        return place_of(self.manifest)

    @property
    def service(self) -> Service:
        """The app's service."""
        return app_service(self.settings, self.place)

    @property
    def functions(self) -> AppFunctions:
        """The service of its functions, and what calls them."""
        found = app_functions(self.settings, self.place)
        if found is None:
            raise CommandFailed("the throw-away app has no functions", "report this")
        return found

    def looked_at(self) -> list[Step]:
        """Return the steps that check the project before anything is made."""
        return preflight(self.place, features(self.settings), (), MORE_PERMISSIONS)

    def for_proofs(self) -> Mapping[str, Step]:
        """By what proofs need, the step that sees to it."""
        place = self.place
        return {
            "impersonation": apis_are_on(place, (CREDENTIALS_API,), "an API for tokens of accounts is on"),
            "keys": apis_are_on(place, (KEYS_API,), "an API for keys is on"),
            "users": set_up(place),
        }

    def made(self, caller: str, lacks: Collection[str] = ()) -> Iterator[Step]:
        """Return the steps for the resources that the revisions need.

        Args:
            caller: whoever runs this, as IAM policies name them.
            lacks: what proofs will not have, of :data:`.proofs.Need`: nothing is made for it.
        """
        place, app = self.place, self.manifest.app
        yield from for_project(place)
        yield from for_service(place, self.service, {})
        yield database(place, app)
        yield database(place, other_database(self.manifest))
        yield indexes(place, app, self._indexed())
        yield _bucket(self.manifest)
        if self.service.work:
            yield from for_work(place, self.service, self.service.work)
        yield from self._calling()
        if "rules" not in lacks:
            yield rules(place, app, self._rules(), frozenset())
        yield publish(place, app, app, {"name": self.settings.app.name, "join": "invite"})
        if "impersonation" not in lacks:
            yield from may_impersonate(place, app, caller)
        if "users" not in lacks:
            yield api_key(self.manifest)

    def watched(self) -> list[Step]:
        """Return the steps that need the services to exist."""
        calls = self.functions.calls
        return [trigger(self.place, watch, calls.account) for watch in calls.documents]

    def built(self) -> Step:
        """The indexes that were begun are built."""
        return indexes_built(self.place, self.manifest.app, self._indexed())

    def _indexed(self) -> Mapping[str, Any]:
        file, settings = self.root / "firestore.indexes.json", self.settings
        return wanted_indexes(file, settings.embedding.length, settings.index.filters)

    def _rules(self) -> str:
        return f"{read_text_file(self.root / 'firestore.rules')}\n{rules_mark(self.manifest)}\n"

    def _calling(self) -> Iterator[Step]:
        calls = self.functions.calls
        for schedule in calls.schedules:
            yield scheduled(self.place, schedule, calls.account)
        yield from for_uploads(self.place, calls.uploads, calls.account)
        for uploads in calls.uploads:
            yield notification(self.place, uploads)


def _bucket(manifest: Manifest) -> Step:
    """The run's own bucket: nothing of it is kept after its objects are deleted
    (https://cloud.google.com/storage/docs/soft-delete)."""
    name, create = bucket_of(manifest), f"{_STORAGE}?project={manifest.project}"
    body = {
        "name": name,
        "location": manifest.region,
        "labels": {LABEL: manifest.run},
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
    }
    return Step(
        f"bucket {name}",
        (Request("GET", f"{_STORAGE}/{name}"),),
        lacks=lambda a: [] if a[0] else [Request("POST", create, body)],
        mend=f"ask for roles/storage.admin in {manifest.project}",
    )
