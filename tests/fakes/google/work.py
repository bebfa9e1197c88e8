"""Cloud Tasks and Cloud Scheduler: queues, who may fill them, and jobs that call an address at set times."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from zoneinfo import available_timezones

from .base import Call, Refusal, Route, exists, not_found
from .project import Project

__all__ = ["Work"]


_JOB = re.compile(r"[A-Za-z0-9_-]{1,500}")
_CRON = re.compile(r"[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}")
_RETRIES = 5
"""A job's id, and the most retries
(https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs); the form of its schedule
(https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules)."""


class Work:
    """State and routes."""

    def __init__(self, project: str, account: Project) -> None:
        self.queues: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.ring: Callable[[dict[str, Any]], object] = lambda _job: None
        """Makes the call of a job that is run now."""
        self._account = account
        self._project = project

    def routes(self) -> list[Route]:
        """Every route."""
        tasks = f"cloudtasks.googleapis.com/v2/projects/{self._project}/locations/([^/]+)/queues"
        scheduler = f"cloudscheduler.googleapis.com/v1/projects/{self._project}/locations/([^/]+)/jobs"
        return [
            Route("GET", tasks, self._list_queues, "cloudtasks.queues.list"),
            Route("POST", tasks, self._create_queue, "cloudtasks.queues.create"),
            Route("POST", tasks + "/([^/:]+):getIamPolicy", self._policy, "cloudtasks.queues.getIamPolicy"),
            Route("POST", tasks + "/([^/:]+):setIamPolicy", self._set_policy, "cloudtasks.queues.setIamPolicy"),
            Route("GET", tasks + "/([^/:]+)", self._queue, "cloudtasks.queues.get"),
            Route("DELETE", tasks + "/([^/:]+)", self._delete_queue, "cloudtasks.queues.delete"),
            Route("GET", scheduler + "/([^/:]+)", self._job, "cloudscheduler.jobs.get"),
            Route("DELETE", scheduler + "/([^/:]+)", self._delete_job, "cloudscheduler.jobs.delete"),
            Route("POST", scheduler + "/([^/:]+):run", self._run_job, "cloudscheduler.jobs.run"),
            Route("GET", scheduler, self._list_jobs, "cloudscheduler.jobs.list"),
            Route("POST", scheduler, self._create_job, "cloudscheduler.jobs.create"),
            Route("PATCH", scheduler + "/([^/:]+)", self._update_job, "cloudscheduler.jobs.update"),
        ]

    def _list_queues(self, _: Call, region: str) -> Any:
        return {"queues": [queue for name, queue in self.queues.items() if f"/{region}/" in name]}

    def _create_queue(self, call: Call, _: str) -> Any:
        queue = call.json
        if queue["name"] in self.queues:
            raise exists(queue["name"])
        self.queues[queue["name"]] = {**queue, "state": "RUNNING"}
        self.policies[queue["name"]] = {"etag": "BwAAAAAA", "bindings": []}
        return self.queues[queue["name"]]

    def _queue(self, _: Call, region: str, name: str) -> Any:
        whole = f"projects/{self._project}/locations/{region}/queues/{name}"
        if whole not in self.queues:
            raise not_found(whole)
        return self.queues[whole]

    def _delete_queue(self, call: Call, region: str, name: str) -> Any:
        whole = self._queue(call, region, name)["name"]
        del self.queues[whole], self.policies[whole]
        return {}

    def _job(self, _: Call, region: str, name: str) -> Any:
        whole = f"projects/{self._project}/locations/{region}/jobs/{name}"
        if whole not in self.jobs:
            raise not_found(whole)
        return self.jobs[whole]

    def _delete_job(self, call: Call, region: str, name: str) -> Any:
        del self.jobs[self._job(call, region, name)["name"]]
        return {}

    def _run_job(self, call: Call, region: str, name: str) -> Any:
        job = self._job(call, region, name)
        self.ring(job)
        return job

    def _policy(self, _: Call, region: str, name: str) -> Any:
        whole = f"projects/{self._project}/locations/{region}/queues/{name}"
        if whole not in self.policies:
            raise not_found(whole)
        return self.policies[whole]

    def _set_policy(self, call: Call, region: str, name: str) -> Any:
        before = self._policy(call, region, name)
        policy = self._account.checked(call.json["policy"], before)
        self.policies[f"projects/{self._project}/locations/{region}/queues/{name}"] = policy
        return policy

    def _list_jobs(self, _: Call, region: str) -> Any:
        return {"jobs": [job for name, job in self.jobs.items() if f"/{region}/" in name]}

    def _create_job(self, call: Call, _: str) -> Any:
        job = call.json
        if job["name"] in self.jobs:
            raise exists(job["name"])
        return self._put(job)

    def _update_job(self, call: Call, region: str, name: str) -> Any:
        whole = f"projects/{self._project}/locations/{region}/jobs/{name}"
        if whole not in self.jobs:
            raise not_found(whole)
        return self._put({**self.jobs[whole], **call.json, "name": whole})

    def _put(self, job: dict[str, Any]) -> Any:
        _check_job(job)
        email = job["httpTarget"]["oidcToken"]["serviceAccountEmail"]
        if email not in self._account.accounts:
            raise Refusal(404, "NOT_FOUND", f"Service account {email} does not exist.")
        self.jobs[job["name"]] = {**job, "state": "ENABLED"}
        return self.jobs[job["name"]]


def _check_job(job: dict[str, Any]) -> None:
    name = job["name"].rpartition("/")[2]
    if not _JOB.fullmatch(name):
        raise Refusal(400, "INVALID_ARGUMENT", f"Job name must match the pattern for job ids: {name}")
    if not _CRON.fullmatch(job["schedule"]):
        raise Refusal(400, "INVALID_ARGUMENT", f"Schedule or time zone is invalid: {job['schedule']}")
    if job.get("timeZone", "Etc/UTC") not in available_timezones():
        raise Refusal(400, "INVALID_ARGUMENT", f"Schedule or time zone is invalid: {job['timeZone']}")
    if job.get("retryConfig", {}).get("retryCount", 0) > _RETRIES:
        raise Refusal(400, "INVALID_ARGUMENT", f"RetryConfig.retry_count must be at most {_RETRIES}.")
