"""The kinds of resources that a run may make: their names, their mark, and how they are looked at and removed.

Most kinds bear the label ``firelaunch-verify=RUN``. Google has no labels for the others; those are known by their whole
name, which holds the run's random id. Names are compared whole, never by how they begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..deploy.calls import topic_of
from ..deploy.gcloud import CommandFailed, Request, Tools
from ..deploy.resources import OF_FUNCTIONS, REPOSITORY, Place, account_of
from .manifest import LABEL, Manifest

__all__ = [
    "KINDS",
    "ResourceKind",
    "binding_name",
    "bucket_of",
    "other_database",
    "place_of",
    "rules_mark",
    "unnamed_ruleset",
    "users_of",
]

_IAM = "https://cloudresourcemanager.googleapis.com/v1/projects"
_IDENTITY = "https://identitytoolkit.googleapis.com/v1/projects"
_STORAGE = "https://storage.googleapis.com/storage/v1/b"
_RULES = "https://firebaserules.googleapis.com/v1"
_FIRESTORE = "https://firestore.googleapis.com/v1"

Names = Callable[[Manifest], frozenset[str]]
Look = Callable[[Tools, Manifest, str], Any]
Marked = Callable[[Manifest, str, Any], bool]
Delete = Callable[[Tools, Manifest, str], object]


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """One kind of resource.

    Args:
        title: for people to read.
        mark: by what a resource is known as the run's, for people to read.
        names: the whole names that a run gives to resources of this kind; None where Google gives them.
        look: the live resource, or None where there is none.
        marked: whether a live resource bears the run's mark, apart from its name.
        delete: begin its removal.
        slow: whether its removal goes on at Google, so that it is looked at until it is gone.
    """

    title: str
    mark: str
    names: Names | None
    look: Look
    marked: Marked
    delete: Delete
    slow: bool = False

    def owns(self, manifest: Manifest, name: str) -> bool:
        """Whether a run may have given a resource this name."""
        return self.names is None or name in self.names(manifest)


def place_of(manifest: Manifest) -> Place:
    """The project and region of a run."""
    return Place(manifest.project, manifest.region, manifest.number)


def bucket_of(manifest: Manifest) -> str:
    """The run's bucket. Bucket names are one namespace for all of Google Cloud, hence the project's id in it."""
    return f"{manifest.project}-{manifest.app}"


def other_database(manifest: Manifest) -> str:
    """The run's second database, which the app's account must not reach."""
    return f"{manifest.app}-other"


def users_of(manifest: Manifest) -> tuple[str, ...]:
    """The uids of the run's users."""
    return f"{manifest.app}-ada", f"{manifest.app}-eve"


def rules_mark(manifest: Manifest) -> str:
    """The comment that ends the run's rules."""
    return f"// {LABEL}={manifest.run}"


def unnamed_ruleset(manifest: Manifest) -> str:
    """Stands for the run's rules between their making and the answer that names them."""
    return f"projects/{manifest.project}/rulesets/-"


def binding_name(role: str, member: str, expression: str) -> str:
    """A binding of the project's policy, as the manifest names it."""
    return json.dumps([role, member, expression])


def _own(manifest: Manifest) -> Mapping[str, str]:
    """The parts of names."""
    place, app = place_of(manifest), manifest.app
    region = f"projects/{manifest.project}/locations/{manifest.region}"
    emails = (place.email(account_of(kind, app)) for kind in ("app", "job"))
    return {"app": app, "region": region, "project": f"projects/{manifest.project}", "emails": " ".join(emails)}


def _named(*forms: str) -> Callable[[Manifest], frozenset[str]]:
    return lambda manifest: frozenset(form.format_map(_own(manifest)) for form in forms)


def _accounts(manifest: Manifest) -> frozenset[str]:
    return frozenset(f"projects/{manifest.project}/serviceAccounts/{email}" for email in _emails(manifest))


def _emails(manifest: Manifest) -> list[str]:
    return _own(manifest)["emails"].split()


def _shown(base: str) -> Look:
    return lambda tools, _, name: tools.request(Request("GET", f"{base}/{name}"))


def _gone(base: str) -> Delete:
    return lambda tools, _, name: tools.request(Request("DELETE", f"{base}/{name}"))


def _is_labelled(manifest: Manifest, _: str, live: Any) -> bool:
    return bool(live.get("labels", {}).get(LABEL) == manifest.run)


def _by_name(*_: Any) -> bool:
    """The name was compared already."""
    return True


def _labelled_kind(title: str, base: str, names: Names) -> ResourceKind:
    return ResourceKind(title, f"the label {LABEL}=RUN", names, _shown(base), _is_labelled, _gone(base), slow=True)


def _named_kind(title: str, base: str, names: Names) -> ResourceKind:
    return ResourceKind(
        title, "its whole name, with the run's id", names, _shown(base), _by_name, _gone(base), slow=True
    )


def _look_at_key(tools: Tools, _: Manifest, name: str) -> Any:
    """A deleted key can be looked at for 30 days (https://cloud.google.com/docs/authentication/api-keys)."""
    live = tools.request(Request("GET", f"https://apikeys.googleapis.com/v2/{name}"))
    return None if live is None or live.get("deleteTime") else live


def _look_at_user(tools: Tools, manifest: Manifest, uid: str) -> Any:
    url = f"{_IDENTITY}/{manifest.project}/accounts:lookup"
    return next(iter((tools.request(Request("POST", url, {"localId": [uid]})) or {}).get("users", [])), None)


def _delete_user(tools: Tools, manifest: Manifest, uid: str) -> None:
    tools.request(Request("POST", f"{_IDENTITY}/{manifest.project}/accounts:delete", {"localId": uid}))


def _policy(tools: Tools, manifest: Manifest) -> Any:
    body = {"options": {"requestedPolicyVersion": 3}}
    return tools.request(Request("POST", f"{_IAM}/{manifest.project}:getIamPolicy", body)) or {}


def _is_binding(binding: Mapping[str, Any], name: str) -> bool:
    role, member, expression = json.loads(name)
    said = binding.get("condition", {}).get("expression", "")
    return (binding["role"], said) == (role, expression) and member in binding.get("members", [])


def _look_at_binding(tools: Tools, manifest: Manifest, name: str) -> Any:
    return next((each for each in _policy(tools, manifest).get("bindings", []) if _is_binding(each, name)), None)


def _is_own_member(manifest: Manifest, name: str, _: Any) -> bool:
    return json.loads(name)[1] in {f"serviceAccount:{email}" for email in _emails(manifest)}


def _delete_binding(tools: Tools, manifest: Manifest, name: str) -> None:
    """Take one member out of the policy, by its etag: a change of somebody else's in between is not lost."""
    for _ in range(5):
        policy, member = _policy(tools, manifest), json.loads(name)[1]
        bindings = []
        for binding in policy.get("bindings", []):
            members = [
                each for each in binding.get("members", []) if not (_is_binding(binding, name) and each == member)
            ]
            bindings += [{**binding, "members": members}] if members else []
        body = {"policy": {**policy, "bindings": bindings}}
        try:
            tools.request(Request("POST", f"{_IAM}/{manifest.project}:setIamPolicy", body))
        except CommandFailed as failed:
            if "concurrent policy changes" not in str(failed):
                raise
        else:
            return
    raise CommandFailed(f"the policy of {manifest.project} changes all the time", "run the same command again")


def _look_at_ruleset(tools: Tools, manifest: Manifest, name: str) -> Any:
    """That of this name; where the run was broken off before it knew the name, that which bears the mark."""
    if name != unnamed_ruleset(manifest):
        return tools.request(Request("GET", f"{_RULES}/{name}"))
    page = ""
    while True:
        found = tools.request(Request("GET", f"{_RULES}/projects/{manifest.project}/rulesets?pageSize=100{page}")) or {}
        for item in found.get("rulesets", []):
            whole = tools.request(Request("GET", f"{_RULES}/{item['name']}"))
            if whole and _is_marked_ruleset(manifest, name, whole):
                return whole
        if not found.get("nextPageToken"):
            return None
        page = f"&pageToken={quote(found['nextPageToken'], safe='')}"


def _delete_ruleset(tools: Tools, manifest: Manifest, name: str) -> None:
    live = _look_at_ruleset(tools, manifest, name)
    tools.request(Request("DELETE", f"{_RULES}/{live['name']}"))


def _is_marked_ruleset(manifest: Manifest, _: str, live: Any) -> bool:
    files = live.get("source", {}).get("files", [])
    return any(file.get("content", "").rstrip().endswith(rules_mark(manifest)) for file in files)


def _delete_database(tools: Tools, _: Manifest, name: str) -> None:
    body = {"deleteProtectionState": "DELETE_PROTECTION_DISABLED"}
    url = f"{_FIRESTORE}/{name}"
    tools.request(Request("PATCH", f"{url}?updateMask=deleteProtectionState", body))
    tools.request(Request("DELETE", url))


def _delete_bucket(tools: Tools, _: Manifest, name: str) -> None:
    for item in _objects(tools, name, ""):
        _delete_object(tools, name, item)
    tools.request(Request("DELETE", f"{_STORAGE}/{name}"))


def _objects(tools: Tools, bucket: str, prefix: str) -> Iterator[str]:
    """The names of all objects below a prefix."""
    page = ""
    while True:
        url = f"{_STORAGE}/{bucket}/o?prefix={quote(prefix, safe='')}{page}"
        found = tools.request(Request("GET", url)) or {}
        yield from [str(item["name"]) for item in found.get("items", [])]
        if not found.get("nextPageToken"):
            return
        page = f"&pageToken={quote(found['nextPageToken'], safe='')}"


def _delete_object(tools: Tools, bucket: str, name: str) -> None:
    tools.request(Request("DELETE", f"{_STORAGE}/{bucket}/o/{quote(name, safe='')}"))


def _sources(manifest: Manifest) -> frozenset[str]:
    """The sources that gcloud uploads for builds, in the service's folder of a bucket that all services share."""
    bucket = f"run-sources-{manifest.project}-{manifest.region}"
    return frozenset(f"{bucket}/services/{name}/" for name in (manifest.app, f"{OF_FUNCTIONS}{manifest.app}"))


def _look_at_sources(tools: Tools, _: Manifest, name: str) -> Any:
    bucket, prefix = name.split("/", 1)
    return list(_objects(tools, bucket, prefix)) or None


def _delete_sources(tools: Tools, _: Manifest, name: str) -> None:
    bucket, prefix = name.split("/", 1)
    for item in _objects(tools, bucket, prefix):
        if item.startswith(prefix):
            _delete_object(tools, bucket, item)


_IMAGES = f"{{region}}/repositories/{REPOSITORY}/packages/"
_SERVICES = ("{app}", f"{OF_FUNCTIONS}{{app}}")

KINDS: Mapping[str, ResourceKind] = {
    "user": ResourceKind(
        title="user of Firebase Authentication",
        mark="its whole uid, with the run's id",
        names=lambda manifest: frozenset(users_of(manifest)),
        look=_look_at_user,
        marked=_by_name,
        delete=_delete_user,
    ),
    "api key": ResourceKind(
        title="API key",
        mark=f"the annotation {LABEL}=RUN",
        names=_named("{project}/locations/global/keys/{app}"),
        look=_look_at_key,
        marked=lambda manifest, _, live: bool(live.get("annotations", {}).get(LABEL) == manifest.run),
        delete=_gone("https://apikeys.googleapis.com/v2"),
        slow=True,
    ),
    "trigger": _labelled_kind(
        "Eventarc trigger", "https://eventarc.googleapis.com/v1", _named("{region}/triggers/fl-removals-{app}")
    ),
    "schedule": _named_kind(
        "Cloud Scheduler job",
        "https://cloudscheduler.googleapis.com/v1",
        _named(*(f"{{region}}/jobs/{{app}}-{name}" for name in ("sweep", "rollup-usage", "expire-reservations"))),
    ),
    "subscription": _labelled_kind(
        "Pub/Sub subscription", "https://pubsub.googleapis.com/v1", _named("{project}/subscriptions/fl-uploads-{app}")
    ),
    "topic": _labelled_kind(
        "Pub/Sub topic",
        "https://pubsub.googleapis.com/v1",
        lambda manifest: frozenset([f"projects/{manifest.project}/topics/{topic_of(bucket_of(manifest))}"]),
    ),
    "service": _labelled_kind(
        "Cloud Run service",
        "https://run.googleapis.com/v2",
        _named(*(f"{{region}}/services/{name}" for name in _SERVICES)),
    ),
    "image": _named_kind(
        "images of a service",
        "https://artifactregistry.googleapis.com/v1",
        _named(*(f"{_IMAGES}{name}" for name in _SERVICES)),
    ),
    "source": ResourceKind(
        title="uploaded source of a service",
        mark="its whole folder, with the run's id",
        names=_sources,
        look=_look_at_sources,
        marked=_by_name,
        delete=_delete_sources,
    ),
    "queue": _named_kind("Cloud Tasks queue", "https://cloudtasks.googleapis.com/v2", _named("{region}/queues/{app}")),
    "rules": _named_kind("release of rules", _RULES, _named("{project}/releases/cloud.firestore/{app}")),
    "ruleset": ResourceKind(
        title="set of rules",
        mark="the comment that ends its text",
        names=None,
        look=_look_at_ruleset,
        marked=_is_marked_ruleset,
        delete=_delete_ruleset,
    ),
    "bucket": ResourceKind(
        title="bucket and its objects",
        mark=f"the label {LABEL}=RUN",
        names=lambda manifest: frozenset([bucket_of(manifest)]),
        look=_shown(_STORAGE),
        marked=_is_labelled,
        delete=_delete_bucket,
    ),
    "database": ResourceKind(
        title="Firestore database",
        mark="its whole name, with the run's id",
        names=_named("{project}/databases/{app}", "{project}/databases/{app}-other"),
        look=_shown(_FIRESTORE),
        marked=_by_name,
        delete=_delete_database,
        slow=True,
    ),
    "binding": ResourceKind(
        title="binding of the project's policy",
        mark="its member, one of the run's accounts",
        names=None,
        look=_look_at_binding,
        marked=_is_own_member,
        delete=_delete_binding,
    ),
    "account": _named_kind("service account", "https://iam.googleapis.com/v1", _accounts),
}
"""In the order of removal: what calls a service goes before it, what a service uses after it, an account's bindings
before the account."""
