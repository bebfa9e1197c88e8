"""A local server that plays Cloud Tasks: takes tasks over gRPC, and brings them over HTTP with signed OIDC tokens.

It refuses what Google refuses (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks,
https://cloud.google.com/tasks/docs/quotas), retries by the queue's policy, and knows the names of tasks that are gone.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import random
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import urlsplit

import grpc
from firelaunch.testing.certificates import CertificateServer
from google.cloud import tasks_v2

__all__ = ["CloudTasksServer", "Dispatch", "RetryPolicy"]

_QUEUE = re.compile(r"projects/[A-Za-z0-9:.-]+/locations/[a-z0-9-]+/queues/[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_MOST_BYTES = 100 * 1024
_MOST_URL = 2083
_FARTHEST = timedelta(days=30)
_DEADLINES = (timedelta(seconds=15), timedelta(minutes=30))
_DEADLINE = timedelta(minutes=10)
_TOMBSTONE_SECONDS = 3600.0
_CREATE = "/google.cloud.tasks.v2.CloudTasks/CreateTask"
_BODIES = (tasks_v2.HttpMethod.POST, tasks_v2.HttpMethod.PUT, tasks_v2.HttpMethod.PATCH)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A queue's retries, with Cloud Tasks' own defaults. ``max_attempts`` -1 is without limit. Times in seconds."""

    min_backoff: float = 0.1
    max_backoff: float = 3600.0
    max_doublings: int = 16
    max_attempts: int = 100

    def pause(self, failures: int) -> float:
        """Seconds before the next try: doubled so many times, then growing by as much each time."""
        doublings = min(failures - 1, self.max_doublings)
        grown: float = self.min_backoff * 2**doublings * max(1, failures - self.max_doublings)
        return min(self.max_backoff, grown)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One delivery: of which task, and the status it was answered with; 0 where no answer came."""

    task: str
    status: int


@dataclass(slots=True)
class _Waiting:
    task: Any
    failures: int = 0
    answered: int = 0


@dataclass(slots=True)
class _State:
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    heap: list[tuple[float, int, str]] = field(default_factory=list)


class CloudTasksServer:
    """A context manager. ``channel`` makes a gRPC channel to it.

    Args:
        queues: full names of the queues that there are.
        certificates: signs the tokens.
        policy: of every queue.
        twice: share of tasks that are delivered a second time after they were answered, as "at least once" allows.
        concurrency: deliveries at a time.
        tombstone_seconds: how long the name of a task that is gone cannot be used again.

    Attributes:
        dispatches: every delivery, in the order in which they ended.
        dropped: names of tasks given up after the policy's last attempt.
        refuse: a gRPC status to answer every create with, or None.
        resolve: where a task's address leads on this machine.
    """

    def __init__(
        self,
        *queues: str,
        certificates: CertificateServer,
        policy: RetryPolicy = RetryPolicy(),
        twice: float = 0.0,
        concurrency: int = 16,
        tombstone_seconds: float = _TOMBSTONE_SECONDS,
    ) -> None:
        self.dispatches: list[Dispatch] = []
        self.dropped: list[str] = []
        self.refuse: grpc.StatusCode | None = None
        self.resolve: Callable[[str], str] = lambda url: url
        self._queues = set(queues)
        self._certificates = certificates
        self._policy = policy
        self._twice = twice
        self._tombstone = tombstone_seconds
        self._state = _State()
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._closing = False
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="cloud-tasks")
        self._server: Any = grpc.server(ThreadPoolExecutor(8, thread_name_prefix="cloud-tasks-grpc"))
        self._server.add_generic_rpc_handlers((_Service(self.create),))
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        threading.Thread(target=self._schedule, name="cloud-tasks", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.stop(None).wait()
        self._pool.shutdown(cancel_futures=True)

    def add_queue(self, name: str) -> None:
        """Take tasks for one more queue, by its whole name."""
        self._queues.add(name)

    def channel(self) -> Any:
        """A new channel to this server."""
        return grpc.insecure_channel(self.host)

    @property
    def tasks(self) -> dict[str, Any]:
        """The tasks that wait or run, by name."""
        with self._changed:
            return {name: waiting.task for name, waiting in self._state.waiting.items()}

    def wait_until_idle(self, seconds: float) -> bool:
        """Whether no task was left within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._state.waiting, seconds)

    def create(self, request: Any, context: Any) -> Any:
        """The method CreateTask."""
        if self.refuse is not None:
            context.abort(self.refuse, "refused, as the test asked for")
        problem = _problem(request)
        if problem is not None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        if request.parent not in self._queues:
            context.abort(grpc.StatusCode.NOT_FOUND, "Queue does not exist.")
        task, now = request.task, datetime.now(UTC)
        task.name = task.name or f"{request.parent}/tasks/{secrets.randbelow(10**19)}"
        task.create_time = now.replace(microsecond=0)
        if not task.schedule_time or task.schedule_time < now:
            task.schedule_time = now
        task.dispatch_deadline = task.dispatch_deadline or _DEADLINE
        if not self._add(task):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "The task cannot be created: a task of this name exists.")
        shown = tasks_v2.Task(task)
        shown.http_request.body = b""
        return shown

    def _add(self, task: Any) -> bool:
        with self._changed:
            gone_at = self._state.gone.get(task.name)
            if task.name in self._state.waiting:
                return False
            if gone_at is not None and time.monotonic() - gone_at < self._tombstone:
                return False
            self._state.waiting[task.name] = _Waiting(task)
            self._push(task.name, (task.schedule_time - datetime.now(UTC)).total_seconds())
            return True

    def _push(self, name: str, seconds: float) -> None:
        heapq.heappush(self._state.heap, (time.monotonic() + seconds, next(self._order), name))
        self._changed.notify_all()

    def _schedule(self) -> None:
        with self._changed:
            while not self._closing:
                heap = self._state.heap
                left = heap[0][0] - time.monotonic() if heap else None
                if left is not None and left <= 0:
                    self._pool.submit(self._dispatch, heapq.heappop(heap)[2])
                else:
                    self._changed.wait(left)

    def _dispatch(self, name: str) -> None:
        with self._changed:
            waiting = self._state.waiting.get(name)
        if waiting is None:
            return
        status = self._post(waiting)
        if 200 <= status < 300 and random.random() < self._twice:  # noqa: S311 - a test's dice
            status = self._post(waiting)
        with self._changed:
            self.dispatches.append(Dispatch(name, status))
            waiting.answered += status > 0
            if not 200 <= status < 300:
                waiting.failures += 1
                if waiting.failures != self._policy.max_attempts:
                    self._push(name, self._policy.pause(waiting.failures))
                    return
                self.dropped.append(name)
            del self._state.waiting[name]
            self._state.gone[name] = time.monotonic()
            self._changed.notify_all()

    def _post(self, waiting: _Waiting) -> int:
        asked = waiting.task.http_request
        place = urlsplit(self.resolve(asked.url))
        connection_of = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = connection_of(place.netloc, timeout=waiting.task.dispatch_deadline.total_seconds())
        try:
            method = tasks_v2.HttpMethod(asked.http_method).name
            connection.request(method, place.path or "/", asked.body or None, self._headers(waiting))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        else:
            return answer.status
        finally:
            connection.close()

    def _headers(self, waiting: _Waiting) -> dict[str, str]:
        task = waiting.task
        _, _, queue, _, task_id = task.name.rsplit("/", 4)
        headers = {
            **task.http_request.headers,
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": queue,
            "X-CloudTasks-TaskName": task_id,
            "X-CloudTasks-TaskRetryCount": str(waiting.failures),
            "X-CloudTasks-TaskExecutionCount": str(waiting.answered),
            "X-CloudTasks-TaskETA": str(task.schedule_time.timestamp()),
        }
        account = task.http_request.oidc_token.service_account_email
        if account:
            audience = task.http_request.oidc_token.audience or task.http_request.url
            headers["Authorization"] = f"Bearer {self.token(account, audience)}"
        return headers

    def token(self, account: str, audience: str, **claims: Any) -> str:
        """An OIDC token as Google issues them to a service account; ``claims`` in place of its own, None takes away."""
        now = int(time.time())
        made: dict[str, Any] = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": "104029292929292929292",
            "sub": "104029292929292929292",
            "email": account,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return self._certificates.sign({k: v for k, v in {**made, **claims}.items() if v is not None})


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, create: Any) -> None:
        self._create = grpc.unary_unary_rpc_method_handler(
            create,
            request_deserializer=tasks_v2.CreateTaskRequest.deserialize,
            response_serializer=tasks_v2.Task.serialize,
        )

    def service(self, details: Any) -> Any:
        return self._create if details.method == _CREATE else None


def _problem(request: Any) -> str | None:
    task, asked = request.task, request.task.http_request
    deadline = task.dispatch_deadline
    faults = {
        "Queue name is not valid.": not _QUEUE.fullmatch(request.parent),
        "Task name is not valid.": task.name and not _is_name(task.name, request.parent),
        "Task has no http_request.": "http_request" not in task,
        "HttpRequest.url is required, and must begin with http:// or https://.": not asked.url.startswith(
            ("http://", "https://")
        ),
        "HttpRequest.url is too long.": len(asked.url) > _MOST_URL,
        "HttpRequest.body is not allowed with this method.": asked.body
        and asked.http_method not in (*_BODIES, tasks_v2.HttpMethod.HTTP_METHOD_UNSPECIFIED),
        "Task size too large.": len(tasks_v2.Task.serialize(task)) > _MOST_BYTES,
        "The schedule_time is too far in the future.": task.schedule_time
        and task.schedule_time > datetime.now(UTC) + _FARTHEST,
        "The dispatch_deadline must be between 15 seconds and 30 minutes.": deadline
        and not _DEADLINES[0] <= deadline <= _DEADLINES[1],
        "The service account's e-mail is not valid.": "oidc_token" in asked
        and "@" not in asked.oidc_token.service_account_email,
    }
    return next((problem for problem, holds in faults.items() if holds), None)


def _is_name(name: str, parent: str) -> bool:
    head, _, task_id = name.rpartition("/tasks/")
    return head == parent and bool(_TASK_ID.fullmatch(task_id))
