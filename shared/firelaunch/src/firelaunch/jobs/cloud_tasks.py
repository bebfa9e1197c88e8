"""Deliver jobs in the cloud: Cloud Tasks calls ``POST /internal/jobs/{kind}``, signed as a service account of ours.

A task only names an app and a job. The worker reads from the job's document what to do, and for whom.
:mod:`firelaunch.services.build` imports this module if it is in use.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from ..errors import JobsUnavailable
from .base import Delivery

__all__ = ["CloudTasksBackend"]

_AHEAD = timedelta(days=29)
"""How far ahead a task is scheduled, at most. Cloud Tasks takes 30 days (https://cloud.google.com/tasks/docs/quotas). A
worker that gets a job too early schedules it again."""

_CREATE_SECONDS = 10.0
_DEADLINE = (15.0, 1800.0)
"""The least and the most seconds that Cloud Tasks waits for an answer."""

_ANSWER_SECONDS = 30.0
"""Seconds that a worker has, beyond those of the attempt itself, to read and write the job's document."""


class CloudTasksBackend:
    """A :class:`~firelaunch.jobs.base.Backend` on one Cloud Tasks queue. The client is built when it is first used.

    Args:
        queue: ``projects/{project}/locations/{location}/queues/{queue}``.
        url: the service's address, which is also the audience of the tokens.
        service_account: the account whose tokens Cloud Tasks sends.
        channel: returns a gRPC channel to use instead of Google's, for tests.
    """

    def __init__(
        self,
        app_id: str,
        queue: str,
        url: str,
        service_account: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        channel: Callable[[], Any] | None = None,
    ) -> None:
        self._app_id = app_id
        self._queue = queue
        self._url = url.rstrip("/")
        self._service_account = service_account
        self._clock = clock
        self._channel = channel
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> Any:
        from google.cloud import tasks_v2
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

        with self._lock:
            # Another thread may have built the client while this one waited for the lock.
            client = self.__dict__.get("_client")
            if client is None:
                if self._channel is None:
                    return tasks_v2.CloudTasksClient()
                client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=self._channel()))
            return client

    def deliver(self, delivery: Delivery) -> None:
        """Create a task for the delivery. See :meth:`Backend.deliver <firelaunch.jobs.base.Backend.deliver>`."""
        from google.api_core import exceptions, retry
        from google.auth.exceptions import GoogleAuthError

        brief = retry.Retry(
            predicate=retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.DeadlineExceeded),
            initial=0.1,
            maximum=1.0,
            timeout=_CREATE_SECONDS,
        )
        try:
            self._client.create_task(
                parent=self._queue, task=self._task(delivery), timeout=_CREATE_SECONDS, retry=brief
            )
        except exceptions.AlreadyExists:
            # This delivery was made before, perhaps by a try whose response was lost.
            return
        except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError) as error:
            raise JobsUnavailable(reason=f"Cloud Tasks did not take it: {error}"[:500]) from error

    def start(self, due: Callable[[int], list[str]], run: Callable[[str], object]) -> None:
        """Do nothing: Cloud Tasks calls the service."""

    def stop(self) -> None:
        """Do nothing: gunicorn waits for running requests."""

    def _task(self, delivery: Delivery) -> Any:
        from google.cloud import tasks_v2

        body = {"app_id": self._app_id, "job_id": delivery.job_id}
        trace = {"traceparent": delivery.trace} if delivery.trace else {}
        shortest, longest = _DEADLINE
        seconds = min(longest, max(shortest, delivery.seconds + _ANSWER_SECONDS))
        return tasks_v2.Task(
            name="" if delivery.name is None else f"{self._queue}/tasks/{delivery.name}",
            http_request=tasks_v2.HttpRequest(
                url=f"{self._url}/internal/jobs/{delivery.kind}",
                http_method=tasks_v2.HttpMethod.POST,
                headers={"Content-Type": "application/json", **trace},
                body=json.dumps(body).encode(),
                oidc_token=tasks_v2.OidcToken(service_account_email=self._service_account, audience=self._url),
            ),
            schedule_time=min(delivery.at, self._clock() + _AHEAD),
            dispatch_deadline=timedelta(seconds=int(seconds)),
        )
