"""Make the resources that deliver an app's jobs: the queue, the sweep and the account they sign as (docs/jobs.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .calls import SCHEDULES
from .gcloud import gcloud
from .iam import account, binds, may_act_as, roles
from .resources import ENQUEUER, QUEUE, Place, Schedule, Service, Work
from .steps import Action, Grant, Step

__all__ = ["dropped_schedules", "for_work", "scheduled"]


def for_work(place: Place, service: Service, work: Work) -> Iterable[Step]:
    """The steps, after those of the service's account."""
    yield account(place, work.account, f"firelaunch: brings jobs to {service.name}")
    if work.roles:
        yield roles(place, work.account, work.roles)
    yield may_act_as(place, work.account, service)
    yield _queue(place, work)
    yield _enqueuer(place, service, work)
    yield scheduled(place, work.sweep, work.account)


def _queue(place: Place, work: Work) -> Step:
    create = gcloud(
        *("tasks", "queues", "create", work.queue, f"--location={place.region}"),
        *(f"--{name}={value}" for name, value in QUEUE.items()),
        project=place.project,
    )
    return Step(
        f"queue {work.queue}",
        (gcloud("tasks", "queues", "list", f"--location={place.region}", project=place.project),),
        lacks=lambda a: [] if any(q["name"].endswith(f"/queues/{work.queue}") for q in a[0] or []) else [create],
        mend=f"ask for roles/cloudtasks.admin in {place.project}; the name of a deleted queue is taken for seven days",
    )


def _enqueuer(place: Place, service: Service, work: Work) -> Step:
    member = place.member(service.account)
    at = f"--location={place.region}"
    bind = gcloud(
        *("tasks", "queues", "add-iam-policy-binding", work.queue, at, f"--member={member}", f"--role={ENQUEUER}"),
        project=place.project,
    )
    return Step(
        f"{service.account} may fill queue {work.queue}: {ENQUEUER}",
        (gcloud("tasks", "queues", "get-iam-policy", work.queue, at, project=place.project),),
        lacks=lambda a: [] if binds(a[0], ENQUEUER, member) else [bind],
        mend=f"ask for roles/cloudtasks.admin in {place.project}",
        grants=(Grant(service.account, ENQUEUER, f"queue {work.queue}"),),
    )


def scheduled(place: Place, schedule: Schedule, caller: str) -> Step:
    """A Cloud Scheduler job that calls as the account ``caller``."""
    email = place.email(caller)
    flags = (
        *(f"--location={place.region}", f"--schedule={schedule.cron}", f"--uri={schedule.url}{schedule.path}"),
        *("--http-method=POST", f"--attempt-deadline={schedule.deadline}"),
        *(f"--oidc-service-account-email={email}", f"--oidc-token-audience={schedule.url}"),
        *([f"--time-zone={schedule.zone}"] if schedule.zone else []),
        *([f"--max-retry-attempts={schedule.retries}"] if schedule.retries else []),
    )
    wanted = (
        *(schedule.cron, f"{schedule.url}{schedule.path}", schedule.deadline, email, schedule.url),
        *(schedule.zone, schedule.retries),
    )

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = next((job for job in answers[0] or [] if job["name"].endswith(f"/jobs/{schedule.name}")), None)
        if there is None or _settings_of(there, schedule) != wanted:
            verb = "update" if there else "create"
            yield gcloud("scheduler", "jobs", verb, "http", schedule.name, *flags, project=place.project)

    return Step(
        f"Scheduler job {schedule.name}",
        (gcloud("scheduler", "jobs", "list", f"--location={place.region}", project=place.project),),
        lacks=lacks,
        mend=f"ask for roles/cloudscheduler.admin in {place.project}",
    )


def dropped_schedules(place: Place, url: str, wanted: Iterable[Schedule]) -> Step:
    """Cloud Scheduler jobs of schedules that the settings of the app at ``url`` no longer have are deleted."""
    kept, at = {each.name for each in wanted}, f"--location={place.region}"

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        for job in answers[0] or []:
            name, uri = job["name"].rpartition("/")[2], str(job.get("httpTarget", {}).get("uri", ""))
            if name not in kept and uri.startswith(f"{url}{SCHEDULES}"):
                yield gcloud("scheduler", "jobs", "delete", name, at, project=place.project)

    return Step(
        "no Scheduler job of a schedule that is gone",
        (gcloud("scheduler", "jobs", "list", at, project=place.project),),
        lacks=lacks,
        mend=f"ask for roles/cloudscheduler.admin in {place.project}",
    )


def _settings_of(job: Mapping[str, Any], schedule: Schedule) -> tuple[Any, ...]:
    target = job.get("httpTarget", {})
    token = target.get("oidcToken", {})
    deadline = job.get("attemptDeadline", "180s")
    # Google's own zone and number of retries stand where firelaunch names none.
    zone = job.get("timeZone", "Etc/UTC") if schedule.zone else ""
    retries = job.get("retryConfig", {}).get("retryCount", 0) if schedule.retries else 0
    return (
        *(job.get("schedule"), target.get("uri"), deadline, token.get("serviceAccountEmail"), token.get("audience")),
        *(zone, retries),
    )
