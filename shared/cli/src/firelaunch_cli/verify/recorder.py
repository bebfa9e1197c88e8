"""A deploy's tools, which note in the manifest what each command makes before it runs, and label what takes labels.

A command whose effect is not known here is refused before it runs: nothing is made that could not be removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from ..deploy.calls import topic_of
from ..deploy.gcloud import Command, CommandFailed, Request, Tools
from ..deploy.resources import OF_FUNCTIONS, REPOSITORY, account_of
from .manifest import LABEL, Manifest
from .resources import KINDS, binding_name, bucket_of, other_database, place_of, rules_mark, unnamed_ruleset

__all__ = ["Recorder"]

_READS = {"list", "describe", "get-iam-policy", "service-agent", "print-access-token", "print-identity-token"}
_WORDS = 5
_LABELLED = {"topic", "subscription", "trigger"}
_LOOKS = (":testIamPermissions", ":getIamPolicy", ":runQuery", ":listCollectionIds", "accounts:lookup")
"""POSTs that change nothing."""


@dataclass(frozen=True, slots=True)
class _Effect:
    """The effect of a command: it makes resources of the run, changes one, or changes the project as a whole."""

    makes: tuple[tuple[str, str], ...] = ()
    changes: str = ""


_READ = _Effect()
_PART = _Effect()


class Recorder(Tools):
    """The tools of one run.

    Args:
        manifest: is on disk with a resource before the command that makes it runs.
        more: as :class:`~firelaunch_cli.deploy.gcloud.Tools`.
    """

    def __init__(
        self,
        manifest: Manifest,
        environ: Mapping[str, str],
        say: Callable[[str], object],
        *more: Any,
        **named: Any,
    ) -> None:
        super().__init__(environ, say, *more, **named)
        self._manifest = manifest
        self._names = _Names(manifest)

    def run(self, command: Command, again: Callable[[], Command] | None = None) -> Any:
        """See :class:`Tools`.

        Raises:
            CommandFailed: as there; or the command makes or changes what is not the run's.
        """
        effect = self._names.of_command(command)
        labelled = _with_label(command, effect, self._manifest.run)
        further = (lambda: _with_label(again(), effect, self._manifest.run)) if again else None
        return self._recorded(effect, lambda: super(Recorder, self).run(labelled, further), str(command))

    def request(self, request: Request) -> Any:
        """See :class:`Tools`.

        Raises:
            CommandFailed: as :meth:`run`.
        """
        effect = self._names.of_request(request)
        said = f"{request.method} {request.url}"
        answer = self._recorded(effect, lambda: super(Recorder, self).request(request), said)
        if any(kind == "rules" for kind, _ in effect.makes):
            self._ruleset_is_known()
        return answer

    def _ruleset_is_known(self) -> None:
        """The release names its ruleset, so that none has to be looked for any more."""
        for resource in self._manifest.left():
            if resource.name == unnamed_ruleset(self._manifest):
                self._manifest.set_state(resource, "removed")

    def _recorded(self, effect: _Effect, act: Callable[[], Any], said: str) -> Any:
        if effect.changes:
            if self._manifest.shared:
                raise CommandFailed(
                    f"{self._manifest.project} is shared, and this would change it for all apps: {effect.changes}",
                    f"deploy an app there first, or do it yourself: {said}",
                )
            self._manifest.change(effect.changes)
        planned = [self._manifest.plan(kind, name) for kind, name in effect.makes]
        answer = act()
        for resource in planned:
            if resource.state == "planned":
                self._manifest.set_state(resource, "made")
        return answer


class _Names:
    """Whether what a command names is the run's."""

    def __init__(self, manifest: Manifest) -> None:
        place, app = place_of(manifest), manifest.app
        self.manifest = manifest
        self.region = f"projects/{manifest.project}/locations/{manifest.region}"
        self.services = {app, f"{OF_FUNCTIONS}{app}"}
        self.accounts = {account_of(kind, app) for kind in ("app", "job")}
        self.emails = {place.email(account) for account in self.accounts}
        self.databases = {app, other_database(manifest)}
        self.bucket = bucket_of(manifest)
        self.topic = topic_of(self.bucket)

    def of_command(self, command: Command) -> _Effect:
        """Return the effect of a gcloud command.

        Raises:
            CommandFailed: that is not known, or touches what is not the run's.
        """
        words = [arg for arg in command.argv[1:] if not arg.startswith("-")]
        if _READS & set(words[:_WORDS]):
            return _READ
        for known, effect in _COMMANDS.items():
            parts = known.split()
            if words[: len(parts)] == parts:
                found: _Effect | None = effect(self, words[len(parts) :], _flags(command.argv))
                if found is not None:
                    return found
        raise CommandFailed(f"verify does not know what this makes, and did not run it: {command}", "report this")

    def of_request(self, request: Request) -> _Effect:
        """Return the effect of a request.

        Raises:
            CommandFailed: as :meth:`of_command`.
        """
        if request.method == "GET" or request.url.partition("?")[0].endswith(_LOOKS):
            return _READ
        parts = urlsplit(request.url)
        where = f"{request.method} {parts.netloc}{unquote(parts.path)}"
        for pattern, effect in _REQUESTS.items():
            found = re.fullmatch(pattern, where)
            if found is not None:
                made: _Effect | None = effect(self, found, request)
                if made is not None:
                    return made
        raise CommandFailed(f"verify does not know what this makes, and did not send it: {where}", "report this")

    def account(self, rest: Sequence[str], _: Mapping[str, str]) -> _Effect:
        """A service account of the run's, or the builder that all apps share."""
        name = rest[0]
        if name in self.accounts:
            email = place_of(self.manifest).email(name)
            return _Effect(makes=(("account", f"projects/{self.manifest.project}/serviceAccounts/{email}"),))
        return _Effect(changes=f"service account {name}, which builds the images of all apps")

    def binding(self, _: Sequence[str], flags: Mapping[str, str]) -> _Effect:
        """A binding of the project's policy."""
        member, role = flags["member"], flags["role"]
        if member.removeprefix("serviceAccount:") in self.emails:
            found = re.search(r"expression=(.*?)(?:;title=|$)", flags.get("condition", ""))
            return _Effect(makes=(("binding", binding_name(role, member, found[1] if found else "")),))
        return _Effect(changes=f"{role} for {member}")

    def service(self, rest: Sequence[str], _: Mapping[str, str]) -> _Effect | None:
        """A Cloud Run service, with its image and the source that gcloud uploads."""
        if rest[0] not in self.services:
            return None
        bucket = f"run-sources-{self.manifest.project}-{self.manifest.region}"
        return _Effect(
            makes=(
                ("service", f"{self.region}/services/{rest[0]}"),
                ("image", f"{self.region}/repositories/{REPOSITORY}/packages/{rest[0]}"),
                ("source", f"{bucket}/services/{rest[0]}/"),
            )
        )

    def database(self, _: Sequence[str], flags: Mapping[str, str]) -> _Effect | None:
        """A Firestore database."""
        name = f"projects/{self.manifest.project}/databases/{flags['database']}"
        return self.makes("database", name)

    def named(self, kind: str, form: str) -> Callable[[Sequence[str], Mapping[str, str]], _Effect | None]:
        """A resource whose id is the command's next word."""
        return lambda rest, _: self.makes(kind, form.format(name=rest[0]))

    def trigger(self, rest: Sequence[str], flags: Mapping[str, str]) -> _Effect | None:
        """An Eventarc trigger, which is where its database is."""
        place = f"projects/{self.manifest.project}/locations/{flags['location']}"
        return self.makes("trigger", f"{place}/triggers/{rest[0]}")

    def ruleset(self, request: Request) -> _Effect | None:
        """A set of rules, whose text has to end with the run's mark, because Google gives it its name."""
        files = (request.body or {}).get("source", {}).get("files", [])
        marked = any(file["content"].rstrip().endswith(rules_mark(self.manifest)) for file in files)
        return _Effect(makes=(("ruleset", unnamed_ruleset(self.manifest)),)) if marked else None

    def release(self, request: Request) -> _Effect | None:
        """Rules in force for one of the run's databases."""
        body = request.body or {}
        release = body.get("release", body)
        made = self.makes("rules", str(release.get("name", "")))
        return replace(made, makes=(*made.makes, ("ruleset", str(release["rulesetName"])))) if made else None

    def part(self, own: set[str], value: str) -> _Effect | None:
        """A part of one of the run's resources, which goes with it."""
        return _PART if value in own else None

    def makes(self, kind: str, name: str) -> _Effect | None:
        """A resource, where its name is one that a run gives."""
        return _Effect(makes=((kind, name),)) if KINDS[kind].owns(self.manifest, name) else None


_Read = Callable[[_Names, Sequence[str], Mapping[str, str]], "_Effect | None"]
_Sent = Callable[[_Names, "re.Match[str]", Request], "_Effect | None"]


def _made(kind: str, scope: str) -> _Read:
    def read(names: _Names, rest: Sequence[str], flags: Mapping[str, str]) -> _Effect | None:
        manifest = names.manifest
        base = f"projects/{manifest.project}" if scope.startswith("/") else ""
        at = f"/locations/{manifest.region}" if scope.startswith("//") else ""
        return names.named(kind, f"{base}{at}/{scope.strip('/')}/{{name}}")(rest, flags)

    return read


_COMMANDS: Mapping[str, _Read] = {
    "iam service-accounts create": _Names.account,
    "iam service-accounts add-iam-policy-binding": lambda n, rest, _: n.part(n.emails, rest[0]),
    "projects add-iam-policy-binding": _Names.binding,
    "artifacts repositories create": lambda *_: _Effect(changes=f"the repository of images {REPOSITORY}"),
    "services enable": lambda _, rest, __: _Effect(changes=f"APIs turned on: {', '.join(rest)}"),
    "firestore databases create": _Names.database,
    "firestore databases update": lambda n, _, flags: n.part(n.databases, flags["database"]),
    "firestore backups schedules create": lambda n, _, flags: n.part(n.databases, flags["database"]),
    "tasks queues create": _made("queue", "//queues"),
    "tasks queues add-iam-policy-binding": lambda n, rest, _: n.part(n.services, rest[0]),
    "scheduler jobs create http": _made("schedule", "//jobs"),
    "scheduler jobs update http": _made("schedule", "//jobs"),
    "pubsub topics create": _made("topic", "/topics"),
    "pubsub topics add-iam-policy-binding": lambda n, rest, _: n.part({n.topic}, rest[0]),
    "pubsub subscriptions create": _made("subscription", "/subscriptions"),
    "storage buckets notifications create": lambda n, rest, _: n.part({f"gs://{n.bucket}"}, rest[0]),
    "storage buckets update": lambda n, rest, _: n.part({f"gs://{n.bucket}"}, rest[0]),
    "eventarc triggers create": _Names.trigger,
    "run deploy": _Names.service,
    "run services update-traffic": lambda n, rest, _: n.part(n.services, rest[0]),
    "run services add-iam-policy-binding": lambda n, rest, _: n.part(n.services, rest[0]),
    "run services update": lambda n, rest, _: n.part(n.services, rest[0]),
    "auth": lambda *_: _READ,
    "config get": lambda *_: _READ,
}
"""By a command's first words, what it does. None of it where it touches what is not the run's."""

_REQUESTS: Mapping[str, _Sent] = {
    r"(?:POST|PATCH) firestore\.googleapis\.com/v1/projects/[^/]+/databases/([^/]+)/(?:collectionG|docum).+": (
        lambda n, found, _: n.part(n.databases, found[1])
    ),
    r"POST firebaserules\.googleapis\.com/v1/projects/[^/]+/rulesets": lambda n, _, request: n.ruleset(request),
    r"(?:POST|PATCH) firebaserules\.googleapis\.com/v1/(projects/[^/]+/releases)(?:/.+)?": (
        lambda n, _, request: n.release(request)
    ),
    r"POST storage\.googleapis\.com/storage/v1/b": (
        lambda n, _, request: n.makes("bucket", str((request.body or {}).get("name")))
    ),
    r"POST apikeys\.googleapis\.com/v2/(projects/[^/]+/locations/global/keys)": (
        lambda n, found, request: n.makes("api key", f"{found[1]}/{_key(request)}")
    ),
    r"POST firebase\.googleapis\.com/v1beta1/projects/[^/]+:addFirebase": (
        lambda *_: _Effect(changes="Firebase added to the project")
    ),
    r"POST identitytoolkit\.googleapis\.com/v2/projects/[^/]+/identityPlatform:initializeAuth": (
        lambda *_: _Effect(changes="Firebase Authentication set up, as Identity Platform")
    ),
    r"POST cloudscheduler\.googleapis\.com/v1/(projects/.+/jobs/[^/:]+):run": (
        lambda n, found, _: _PART if KINDS["schedule"].owns(n.manifest, found[1]) else None
    ),
    r"POST iamcredentials\.googleapis\.com/v1/projects/-/serviceAccounts/([^/:]+):\w+": (
        lambda n, found, _: n.part(n.emails, found[1])
    ),
}


def _key(request: Request) -> str:
    found = re.search(r"[?&]keyId=([a-z0-9-]+)", request.url)
    return found[1] if found else ""


def _flags(argv: Sequence[str]) -> dict[str, str]:
    """``--name=value`` by name; a later one of the same name wins, as with gcloud."""
    pairs = (arg[2:].partition("=") for arg in argv if arg.startswith("--"))
    return {name: value for name, _, value in pairs}


def _with_label(command: Command, effect: _Effect, run: str) -> Command:
    kinds = {kind for kind, _ in effect.makes}
    label = f"{LABEL}={run}"
    if "service" in kinds:  # the deploy's own labels are in one flag, and gcloud takes one alone
        return replace(
            command, argv=tuple(f"{arg},{label}" if arg.startswith("--labels=") else arg for arg in command.argv)
        )
    if kinds & _LABELLED:
        *most, last = command.argv
        return replace(command, argv=(*most, f"--labels={label}", last))
    return command
