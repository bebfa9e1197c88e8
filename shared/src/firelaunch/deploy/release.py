"""A new revision of a service: built, tried where no user is, and only then given the traffic; and the way back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .names import BUILDER, RUN, RUNTIME, Place, Service
from .tools import Command, Failed, Tools, gcloud

__all__ = ["CANDIDATE", "PREVIEW", "Live", "Release", "deploy_command", "services_command", "traffic_command"]

CANDIDATE = "candidate"
PREVIEW = "preview"
PREVIOUS = "previous"
"""Tags of revisions: the one that is tried, the one that is shown to somebody, the one to go back to."""

_DIGEST = "firelaunch-digest"
_DIGEST_CHARACTERS = 40
"""Of the 64 of a SHA-256; a label takes 63."""

Smoke = Callable[[str], str | None]
"""Tries a revision at its own address; what is wrong with it, or None."""


@dataclass(frozen=True, slots=True)
class Live:
    """What Cloud Run says of a service."""

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
        """What the latest revision was made of."""
        found: str | None = self.data["spec"]["template"]["metadata"].get("labels", {}).get(_DIGEST)
        return found

    @property
    def ready(self) -> bool:
        """Whether the latest revision came up."""
        return bool(self.latest == self.data["status"].get("latestReadyRevisionName"))

    @property
    def ever_ready(self) -> bool:
        """Whether any revision came up; traffic cannot stay where there is none."""
        return bool(self.data["status"].get("latestReadyRevisionName"))

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
        container = self.data["spec"]["template"]["spec"]["containers"][0]
        return next((str(v.get("value", "")) for v in container.get("env", []) if v["name"] == name), "")

    def _traffic(self) -> list[dict[str, Any]]:
        traffic: list[dict[str, Any]] = self.data["status"].get("traffic", [])
        return traffic


@dataclass(frozen=True, slots=True)
class Release:
    """What a service's revisions are made and moved with.

    Args:
        more: arguments that go to ``gcloud run deploy`` as they are.
    """

    tools: Tools
    place: Place
    service: Service
    smoke: Smoke
    more: tuple[str, ...] = ()

    def live(self, *, fresh: bool = True) -> Live | None:
        """The service as it is; None where there is none yet."""
        listed = self.tools.read(services_command(self.place), fresh=fresh) or []
        return next((Live(item) for item in listed if item["metadata"]["name"] == self.service.name), None)

    def deploy(self, source: Path, digest: str) -> str:
        """Make a revision of ``source`` where there is none of these bytes and settings, try it, move the traffic.

        Returns:
            What happened, in a sentence.

        Raises:
            Failed: it could not be made, or does not work. Traffic stays where it was.
        """
        live, made = self.live(fresh=False), self._digest(source, digest)
        if live and live.digest == made and live.ready and live.serving == live.latest:
            return f"{self.service.name}: nothing has changed; {live.latest} serves at {live.url}"
        if not (live and live.digest == made and live.ready and live.address(live.latest)):
            self.tools.run(self._command(source, made, CANDIDATE, first=live is None or not live.ever_ready))
            live = self._there()
        self._try(live)
        before = live.serving if live.serving != live.latest else None
        self.tools.run(traffic_command(self.place, self.service.name, live.latest, before))
        return f"{self.service.name}: {live.latest} serves at {live.url}"

    def preview(self, source: Path, digest: str) -> str:
        """Make a revision that gets no traffic, at an address of its own.

        Raises:
            Failed: there is no service yet, or the revision does not work.
        """
        if self.live(fresh=False) is None:
            raise Failed(f"{self.service.name} was never deployed", "deploy it once without --preview")
        self.tools.run(self._command(source, self._digest(source, digest), PREVIEW, first=False))
        live = self._there()
        self._try(live)
        return f"{self.service.name}: {live.latest} is shown at {live.address(live.latest)}, and gets no traffic"

    def rollback(self) -> str:
        """Give all traffic back to the revision that had it before.

        Raises:
            Failed: there is none.
        """
        live = self.live()
        target = live.tagged(PREVIOUS) if live else None
        if live is None or target is None:
            listing = f"gcloud run revisions list --service={self.service.name} --region={self.place.region}"
            raise Failed(
                f"{self.service.name} has no revision from before",
                f"choose one of: {listing}; then: gcloud run services update-traffic {self.service.name} "
                f"--region={self.place.region} --to-revisions=REVISION=100",
            )
        self.tools.run(traffic_command(self.place, self.service.name, target, live.serving))
        return f"{self.service.name}: {target} serves again at {live.url}"

    def _there(self) -> Live:
        live = self.live()
        if live is None:
            raise Failed(f"{self.service.name} is not there after its deploy", "run the same command again")
        return live

    def _try(self, live: Live) -> None:
        address = live.address(live.latest)
        problem = self.smoke(address) if address else "it has no address of its own"
        if problem is None:
            return
        stays = (
            f"Traffic stays on {live.serving}." if live.serving else "It is the first revision, and no other serves."
        )
        raise Failed(
            f"{live.latest} does not work: {problem}\n{stays}",
            f"gcloud run services logs read {self.service.name} --region={self.place.region} "
            f"--project={self.place.project}",
        )

    def _digest(self, source: Path, digest: str) -> str:
        """Of the staged bytes and of every setting that the revision is made with."""
        flags = [
            flag for flag in deploy_command(self.place, self.service, source).argv if not flag.startswith("--source=")
        ]
        text = json.dumps([digest, flags, self.more])
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]

    def _command(self, source: Path, digest: str, tag: str, *, first: bool) -> Command:
        return deploy_command(self.place, self.service, source, digest, tag, first=first, more=self.more)


def deploy_command(
    place: Place,
    service: Service,
    source: Path,
    digest: str = "",
    tag: str = CANDIDATE,
    *,
    first: bool = False,
    more: tuple[str, ...] = (),
) -> Command:
    """``gcloud run deploy``. A service's first revision cannot be made without traffic; gcloud refuses that."""
    account = f"projects/{place.project}/serviceAccounts/{place.email(BUILDER)}"
    flags = [
        *("run", "deploy", service.name, f"--region={place.region}", f"--source={source}"),
        *(f"--service-account={place.email(service.account)}", f"--build-service-account={account}"),
        *(f"--tag={tag}", *([] if first else ["--no-traffic"])),
        "--allow-unauthenticated" if service.public else "--no-allow-unauthenticated",
        *(f"--concurrency={service.concurrency}", f"--memory={service.memory}"),
        *(f"--min={service.min_instances}", f"--max-instances={service.max_instances}"),
        *(_flag(name, value) for name, value in RUN.items()),
        f"--set-env-vars={_pairs(service.environ)}",
        f"--labels={_DIGEST}={digest or 'DIGEST'}",
    ]
    if service.secrets:
        flags.append("--set-secrets=" + ",".join(f"{key}={name}:latest" for key, name in service.secrets.items()))
    if service.function:
        flags += [f"--function={service.function}", f"--base-image={RUNTIME}"]
    return gcloud(*flags, *more, project=place.project, long=True)


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


def _flag(name: str, value: str | int | bool) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def _all(target: dict[str, Any]) -> bool:
    return bool(target.get("percent") == 100 and not target.get("latestRevision") and "revisionName" in target)


def _pairs(environ: Any) -> str:
    """gcloud's form of a map whose values may hold commas (gcloud topic escaping)."""
    return "^;^" + ";".join(f"{key}={value}" for key, value in environ.items())
