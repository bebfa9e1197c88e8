"""What brings an app its jobs: the queue, the regular sweep, and the account that both sign as. See docs/jobs.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .iam import account, binds, may_act_as
from .names import ENQUEUER, QUEUE, SWEEP, Place, Service, Work
from .steps import Step
from .tools import gcloud

__all__ = ["for_work"]


def for_work(place: Place, service: Service, work: Work) -> Iterable[Step]:
    """The steps, after those of the service's account."""
    yield account(place, work.account, f"firelaunch: brings jobs to {service.name}")
    yield may_act_as(place, work.account, service.account)
    yield _queue(place, work)
    yield _enqueuer(place, service, work)
    yield _sweep(place, service, work)


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
        f"{service.name} may fill it",
        (gcloud("tasks", "queues", "get-iam-policy", work.queue, at, project=place.project),),
        lacks=lambda a: [] if binds(a[0], ENQUEUER, member) else [bind],
        mend=f"ask for roles/cloudtasks.admin in {place.project}",
        look=None,
    )


def _sweep(place: Place, service: Service, work: Work) -> Step:
    url, account_email = service.environ["FIRELAUNCH_JOBS_URL"], place.email(work.account)
    flags = (
        *(f"--location={place.region}", f"--schedule={SWEEP['schedule']}", f"--uri={url}{SWEEP['path']}"),
        *(f"--http-method={SWEEP['method']}", f"--oidc-service-account-email={account_email}"),
        f"--oidc-token-audience={url}",
    )

    def verb(answers: Sequence[Any]) -> str | None:
        there = next((job for job in answers[0] or [] if job["name"].endswith(f"/jobs/{work.sweep}")), None)
        if there is None:
            return "create"
        target = there.get("httpTarget", {})
        token = target.get("oidcToken", {})
        is_so = (there.get("schedule"), target.get("uri"), token.get("serviceAccountEmail"), token.get("audience"))
        return None if is_so == (SWEEP["schedule"], f"{url}{SWEEP['path']}", account_email, url) else "update"

    return Step(
        f"Scheduler job {work.sweep}",
        (gcloud("scheduler", "jobs", "list", f"--location={place.region}", project=place.project),),
        lacks=lambda a: (
            [gcloud("scheduler", "jobs", v, "http", work.sweep, *flags, project=place.project)]
            if (v := verb(a))
            else []
        ),
        mend=f"ask for roles/cloudscheduler.admin in {place.project}",
    )
