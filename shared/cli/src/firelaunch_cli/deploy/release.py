"""A new revision of a service: built, tried where no user is, and only then given the traffic; and the way back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .build_folder import Staged
from .commits import NO_SOURCES, Sources
from .gcloud import Command, CommandFailed, Tools, gcloud
from .gcloud_args import joined
from .plan import secret_versions
from .resources import BUILDER, INVOKER, PROBES, RUN, TAGS, Place, Service
from .steps import Step, perform

__all__ = ["CANDIDATE", "PREVIEW", "Live", "Release", "deploy_command", "services_command", "traffic_command"]

CANDIDATE, PREVIEW, PREVIOUS = TAGS

_BEFORE, _SERVING = "REVISION_TAGGED_PREVIOUS", "REVISION_THAT_SERVES"
"""Stand for the names of revisions in a dry run, which knows none."""

_DIGEST = "firelaunch-digest"
_SOURCE = "firelaunch-source"
_CODE = "firelaunch-code"
"""Labels of revisions: of bytes and settings together; of the bytes that the image was built from; of those but for an
app's settings."""

_UNCHECKED = "run.googleapis.com/invoker-iam-disabled"
_CLOSED = "answered with 403"
_OPENING = (
    "ask for roles/run.admin; where an organization's policies forbid it, have an administrator allow one of both for "
    "this project: allUsers (constraints/iam.allowedPolicyMemberDomains), or services without a check of their callers "
    '(constraints/run.managed.requireInvokerIam). cloud.edge = "private" needs neither, and goes without jobs, '
    "functions and browsers"
)

_DIGEST_CHARACTERS = 40
"""Of the 64 of a SHA-256; a label takes 63."""

Smoke = Callable[[str], str | None]
"""Tries a revision at its own address; what is wrong with it, or None."""


@dataclass(frozen=True, slots=True)
class Live:
    """A service as Cloud Run describes it."""

    data: dict[str, Any]

    @property
    def url(self) -> str:
        """The service's address."""
        return str(self.data["status"].get("url", ""))

    @property
    def latest(self) -> str:
        """The revision made last."""
        return str(self.data["status"].get("latestCreatedRevisionName", ""))

    @property
    def serving(self) -> str | None:
        """The revision that was given all traffic by name; None where traffic goes to whatever is the latest."""
        return next((str(t.get("revisionName")) for t in self.data["spec"].get("traffic", []) if _all(t)), None)

    @property
    def digest(self) -> str | None:
        """The digest of the latest revision's source."""
        return self._label(_DIGEST)

    def built_from(self, source: str) -> str | None:
        """The latest revision's image, where it came up and holds what was staged as ``source``."""
        if not self.ready or source not in {self._label(_SOURCE), self._label(_CODE)}:
            return None
        return str(self._container["image"])

    def image_of(self, digest: str) -> str | None:
        """The latest revision's image, where it was made of these bytes and settings, whether it came up or not."""
        return str(self._container["image"]) if self.digest == digest else None

    @property
    def unchecked(self) -> bool:
        """Whether Cloud Run checks no caller of it."""
        return bool(str(self.data["metadata"].get("annotations", {}).get(_UNCHECKED)).lower() == "true")

    @property
    def ready(self) -> bool:
        """Whether the latest revision came up."""
        return bool(self.latest == self.data["status"].get("latestReadyRevisionName"))

    @property
    def ever_ready(self) -> bool:
        """Whether any revision came up; traffic cannot stay where there is none."""
        return bool(self.data["status"].get("latestReadyRevisionName"))

    @property
    def on_base_image(self) -> bool:
        """Whether Cloud Run puts the image on a base image of its own, as earlier deploys of functions had it. A
        Dockerfile's image has its own base, and gcloud refuses it until that is ended."""
        return "run.googleapis.com/build-base-image" in self.data["metadata"].get("annotations", {})

    def tagged(self, tag: str) -> str | None:
        """The revision that has a tag."""
        return next((str(t["revisionName"]) for t in self._traffic() if t.get("tag") == tag), None)

    def address(self, revision: str) -> str | None:
        """The address of a revision of its own, which a tag gives it."""
        return next(
            (str(t["url"]) for t in self._traffic() if t.get("revisionName") == revision and t.get("url")), None
        )

    def environ(self, name: str) -> str:
        """A variable of the latest revision; empty where it has none such."""
        return next((str(v.get("value", "")) for v in self._container.get("env", []) if v["name"] == name), "")

    @property
    def _container(self) -> dict[str, Any]:
        found: dict[str, Any] = self.data["spec"]["template"]["spec"]["containers"][0]
        return found

    def _label(self, name: str) -> str | None:
        found: str | None = self.data["spec"]["template"]["metadata"].get("labels", {}).get(name)
        return found

    def _traffic(self) -> list[dict[str, Any]]:
        traffic: list[dict[str, Any]] = self.data["status"].get("traffic", [])
        return traffic


@dataclass(frozen=True, slots=True)
class Release:
    """Makes a service's revisions and moves its traffic.

    Args:
        more: arguments that go to ``gcloud run deploy`` as they are.
        sources: the commits that new revisions are labelled with.
    """

    tools: Tools
    place: Place
    service: Service
    smoke: Smoke
    more: tuple[str, ...] = ()
    sources: Sources = NO_SOURCES

    def live(self, *, fresh: bool = True) -> Live | None:
        """The service as it is; None where there is none yet."""
        return self._found(self._listed(fresh=fresh))

    def _found(self, listed: Any) -> Live | None:
        return next((Live(each) for each in listed if each["metadata"]["name"] == self.service.name), None)

    def deploy(self, staged: Staged) -> str:
        """Make a revision where there is none of these bytes and settings, try it, move the traffic.

        Nothing is built where a service of the project has an image of the same bytes.

        Returns:
            What happened, in a sentence.

        Raises:
            CommandFailed: it could not be made, or does not work. Traffic stays where it was.
        """
        release = self._pinned()
        live, made = self.live(fresh=False), release._digest(staged)
        if live and live.digest == made and live.ready and live.serving == live.latest:
            return f"{self.service.name}: nothing has changed; {live.latest} serves at {live.url}"
        if not (live and live.digest == made and live.ready and live.address(live.latest)):
            release._make(staged, made, CANDIDATE)
            live = self._there()
        opened = self._try(live)
        before = live.serving if live.serving != live.latest else None
        self.tools.run(traffic_command(self.place, self.service.name, live.latest, before))
        return f"{self.service.name}: {live.latest} serves at {live.url}{opened}"

    def preview(self, staged: Staged) -> str:
        """Make a revision that gets no traffic, at an address of its own.

        Raises:
            CommandFailed: there is no service yet, or the revision does not work.
        """
        if self.live(fresh=False) is None:
            raise CommandFailed(f"{self.service.name} was never deployed", "deploy it once without --preview")
        release = self._pinned()
        release._make(staged, release._digest(staged), PREVIEW)
        live = self._there()
        self._try(live)
        return f"{self.service.name}: {live.latest} is shown at {live.address(live.latest)}, and gets no traffic"

    def rollback(self) -> str:
        """Give all traffic back to the revision that had it before.

        Raises:
            CommandFailed: there is none.
        """
        perform(self.way_back(), self.tools, lambda _: True)
        before = self._there(fresh=False)  # as the step saw it
        return f"{self.service.name}: {before.tagged(PREVIOUS)} serves again at {before.url}"

    def way_back(self) -> Step:
        """The step that gives all traffic back to the revision that had it before."""
        name, at = self.service.name, f"--region={self.place.region} --project={self.place.project}"

        def moved(answers: Sequence[Any]) -> Iterable[Command]:
            live = self._found(answers[0] or [])
            target = live.tagged(PREVIOUS) if live else None
            yield traffic_command(self.place, name, target or _BEFORE, live.serving if live else _SERVING)

        def wrong(answers: Sequence[Any]) -> str | None:
            live = self._found(answers[0] or [])
            return None if live and live.tagged(PREVIOUS) else f"{name} has no revision from before"

        return Step(
            f"all traffic of {name} to its revision with the tag {PREVIOUS}",
            (services_command(self.place),),
            lacks=moved,
            refuses=wrong,
            mend=f"choose one of: gcloud run revisions list --service={name} {at}; "
            f"then: gcloud run services update-traffic {name} {at} --to-revisions=REVISION=100",
            look=lambda _: [self._listed(fresh=True)],
        )

    def plan(self, source: Path) -> list[str]:
        """Return the lines of a dry run for a first revision."""
        later = f"a revision of {self.service.name}; later ones also with --no-traffic"
        made = deploy_command(self.place, self.service, source, first=True, more=self.more)
        moved = traffic_command(self.place, self.service.name, "REVISION", None)
        return [
            *self._tried(later, made, f"{CANDIDATE}---{self.service.name}-... before it gets traffic"),
            f"    do    {moved}",
        ]

    def preview_plan(self, source: Path) -> list[str]:
        """Return the lines of a dry run for :meth:`preview`."""
        made = deploy_command(self.place, self.service, source, tag=PREVIEW, more=self.more)
        versions = [secret_versions(self.place, name) for name in self.service.secrets.values()]
        title = f"a revision of {self.service.name} without traffic; the service must be there already"
        return self._tried(title, made, f"{PREVIEW}---{self.service.name}-...", *versions)

    def _tried(self, title: str, made: Command, where: str, *looks: Command) -> list[str]:
        return [
            title,
            *(f"    look  {look}" for look in (services_command(self.place), *looks)),
            f"    do    {made}",
            f"    try   https://{where}",
        ]

    def _pinned(self) -> Release:
        """The same with the latest version of each secret: a new version is then a new revision, tried like any other,
        and a rollback brings the old one back. With "latest" an instance has what was the latest when it started."""
        pinned = {variable: f"{name}:{self._version(name)}" for variable, name in self.service.secrets.items()}
        return replace(self, service=replace(self.service, secrets=pinned))

    def _version(self, secret: str) -> int:
        command = secret_versions(self.place, secret)
        listed = self.tools.read(command) or self.tools.read(command, fresh=True)
        if not listed:
            raise CommandFailed(
                f"secret {secret} has no version", f"gcloud secrets versions add {secret} --data-file=-"
            )
        return max(int(str(version["name"]).rpartition("/")[2]) for version in listed)

    def _make(self, staged: Staged, digest: str, tag: str) -> None:
        """Make a revision. A further try, as when its account's rights do not hold yet, builds nothing anew."""

        def again() -> Command:
            made = self.live()
            return self._command(staged, digest, tag, built=made.image_of(digest) if made else None)

        self.tools.run(self._command(staged, digest, tag), again)

    def _there(self, *, fresh: bool = True) -> Live:
        live = self.live(fresh=fresh)
        if live is None:
            raise CommandFailed(f"{self.service.name} is not there after its deploy", "run the same command again")
        return live

    def _try(self, live: Live) -> str:
        """How a service that was closed to its users was opened; empty where nothing was to be done.

        Raises:
            CommandFailed: the revision does not work, or the service cannot be opened.
        """
        address, opened = live.address(live.latest), ""
        problem = self.smoke(address) if address else "it has no address of its own"
        if address and problem and self.service.public and _CLOSED in problem:
            opened = f"\n{self._open()}"
            problem = self.smoke(address)
        if problem is None:
            return opened
        stays = (
            f"Traffic stays on {live.serving}." if live.serving else "It is the first revision, and no other serves."
        )
        logs = f"gcloud run services logs read {self.service.name} --region={self.place.region}"
        logs += f" --project={self.place.project}"
        raise CommandFailed(f"{live.latest} does not work: {problem}\n{stays}", logs)

    def _open(self) -> str:
        """Let anybody call the service; gcloud only warns where its own try was refused.

        An organization may forbid allUsers. Google then recommends that Cloud Run check no caller of the service at all
        (https://cloud.google.com/run/docs/authenticating/public), which comes to the same.
        """
        name = self.service.name
        try:
            self.tools.run(public_command(self.place, name))
        except CommandFailed as refusal:
            try:
                self.tools.run(unchecked_command(self.place, name))
            except CommandFailed as second:
                raise CommandFailed(f"{name} cannot be opened to its users.\n{refusal}\n{second}", _OPENING) from None
            return f"{name}: anybody may call it, because Cloud Run checks no caller of it; allUsers was refused"
        return f"{name}: anybody may call it, because allUsers holds {INVOKER}"

    def _listed(self, *, fresh: bool) -> list[dict[str, Any]]:
        return self.tools.read(services_command(self.place), fresh=fresh) or []

    def _digest(self, staged: Staged) -> str:
        """Of the staged bytes and of every setting that the revision is made with."""
        flags = [
            flag
            for flag in deploy_command(self.place, self.service, staged.folder).argv
            if not flag.startswith("--source=")
        ]
        return _short(hashlib.sha256(json.dumps([staged.digest, flags, self.more]).encode()).hexdigest())

    def _command(self, staged: Staged, digest: str, tag: str, *, built: str | None = None) -> Command:
        labels = {_DIGEST: digest, _SOURCE: _short(staged.digest), **self.sources.labels}
        if staged.code:
            labels[_CODE] = _short(staged.code)
        images = (Live(each).built_from(labels[_SOURCE]) for each in self._listed(fresh=False))
        image = built or next(filter(None, images), None)
        live = self.live(fresh=False)
        first = live is None or not live.ever_ready
        more = (*(["--clear-base-image"] if live and live.on_base_image else []), *self.more)
        return deploy_command(
            *(self.place, self.service, staged.folder, labels, tag),
            first=first,
            image=image,
            more=more,
            unchecked=bool(live and live.unchecked),
        )


def deploy_command(
    place: Place,
    service: Service,
    source: Path,
    labels: Mapping[str, str] = MappingProxyType({_DIGEST: "DIGEST"}),
    tag: str = CANDIDATE,
    *,
    first: bool = False,
    image: str | None = None,
    more: tuple[str, ...] = (),
    unchecked: bool = False,
) -> Command:
    """``gcloud run deploy``. A service's first revision cannot be made without traffic; gcloud refuses that.

    Args:
        image: is deployed in place of one that is built from ``source``.
        unchecked: whether the public service was opened by having Cloud Run check no caller, and stays so.
    """
    account = f"projects/{place.project}/serviceAccounts/{place.email(BUILDER)}"
    built = (f"--image={image}",) if image else (f"--source={source}", f"--build-service-account={account}")
    flags = [
        *("run", "deploy", service.name, f"--region={place.region}", *built),
        *(f"--service-account={place.email(service.account)}", f"--tag={tag}", *([] if first else ["--no-traffic"])),
        _edge(service, unchecked=unchecked),
        *(f"--concurrency={service.concurrency}", f"--memory={service.memory}"),
        *(f"--min={service.min_instances}", f"--max-instances={service.max_instances}"),
        *(_flag(name, value) for name, value in RUN.items()),
        f"--set-env-vars={_pairs(service.environ)}",
        f"--labels={','.join(f'{key}={value}' for key, value in labels.items())}",
    ]
    if service.secrets:
        flags.append("--set-secrets=" + ",".join(f"{key}={_versioned(name)}" for key, name in service.secrets.items()))
    if service.function is None:
        flags += [f"--{kind}-probe={_probe(settings)}" for kind, settings in PROBES.items()]
    return gcloud(*joined(flags, more), project=place.project, long=True)


def services_command(place: Place) -> Command:
    """All services of the region, with their traffic and settings."""
    return gcloud("run", "services", "list", f"--region={place.region}", project=place.project)


def traffic_command(place: Place, service: str, revision: str, before: str | None) -> Command:
    """All traffic to one revision; the one that had it ``before`` is tagged, to go back to."""
    tags = [f"--update-tags={PREVIOUS}={before}"] if before else []
    return gcloud(
        *("run", "services", "update-traffic", service, f"--region={place.region}"),
        *(f"--to-revisions={revision}=100", *tags),
        project=place.project,
    )


def public_command(place: Place, service: str) -> Command:
    """Anybody may call the service, as ``--allow-unauthenticated`` has it."""
    return gcloud(
        *("run", "services", "add-iam-policy-binding", service, f"--region={place.region}"),
        *("--member=allUsers", f"--role={INVOKER}"),
        project=place.project,
    )


def unchecked_command(place: Place, service: str) -> Command:
    """Cloud Run checks no caller of the service. It makes no revision."""
    return gcloud(
        *("run", "services", "update", service, f"--region={place.region}", "--no-invoker-iam-check"),
        project=place.project,
    )


def _short(digest: str) -> str:
    return digest[:_DIGEST_CHARACTERS]


def _edge(service: Service, *, unchecked: bool) -> str:
    if not service.public:
        return "--no-allow-unauthenticated"
    return "--no-invoker-iam-check" if unchecked else "--allow-unauthenticated"


def _versioned(secret: str) -> str:
    """A secret with its version; VERSION stands for it in a dry run, which knows none."""
    return secret if ":" in secret else f"{secret}:VERSION"


def _probe(settings: Mapping[str, str | int]) -> str:
    return ",".join(f"{name}={value}" for name, value in {**settings, "httpGet.port": RUN["port"]}.items())


def _flag(name: str, value: str | int | bool) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def _all(target: dict[str, Any]) -> bool:
    return bool(target.get("percent") == 100 and not target.get("latestRevision") and "revisionName" in target)


def _pairs(environ: Any) -> str:
    """gcloud's form of a map whose values may hold commas (gcloud topic escaping)."""
    return "^;^" + ";".join(f"{key}={value}" for key, value in environ.items())
