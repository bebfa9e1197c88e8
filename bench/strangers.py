"""Measure what clients without a token, and one user who floods, do to probes and to another user's turns.

1,000 connections of each kind (``bench/hostile_clients.py``) hold on to the template's app under its own gunicorn
settings, to the same app behind nginx, and to the functions' server. Each server runs on one core, and all clients on
the other: the user, the probes, and the hostile clients, whose share of that core is reported. A figure under attack
stands against the same figure just before the attack, so whatever else the machine does falsifies it.

What is measured: users with one chat each, who send a message in turn, 30 ms after each answer of the offline model.
At the functions, whose database is not there, the user's token is verified, and a 400 is the answer. Hostile clients
open a connection again as soon as the server closes it, so a server that refuses faster is asked more often. What is
not measured: networks, TLS, Google's front end, and users who sign in during the attack.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from firelaunch.testing.emulator import unsigned_token

from bench.ingest_served import Client, app_folder, quantile, timed
from bench.relay import LOAD_CORE, ROOT, SERVER_CORE, cpu_seconds, free_port, process
from bench.report import Report, progress, size

CLIENTS = size(1_000, 20)
FLOODING = size(64, 4)
"""Connections of the user who floods."""

SECONDS = size(12.0, 0.2)
SETTLE_SECONDS = size(3.0, 0.05)
PROBE_SECONDS = 1.0
"""Cloud Run's default timeout of a probe (https://cloud.google.com/run/docs/configuring/healthchecks)."""

PACE = 0.03
USERS = 8
"""Users who take turns, as one alone would soon have as many requests in a minute as a user may."""

SLOW = size(
    ("slow heads", "slow bodies", "slow chunks", "unread answers", "reopened"), ("slow heads", "unread answers")
)


@dataclass
class Seen:
    """The answers that the probes and the user got in one stretch of time. A refused or broken turn is a failed one.

    Attributes:
        hostile: share of a core that the hostile clients used.
    """

    probes: int = 0
    probes_failed: int = 0
    failed: int = 0
    hostile: float = 0.0
    probe_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def success(self) -> float:
        """Share of the probes that were answered with 200."""
        return 1 - self.probes_failed / max(1, self.probes)

    @property
    def p95(self) -> float:
        """Seconds that 95 in 100 of the user's requests did not exceed."""
        return quantile(self.seconds, 0.95) if self.seconds else PROBE_SECONDS


@dataclass
class Target:
    """A server under attack: what a probe asks for, what a user asks for, and what clients attack."""

    name: str
    port: int
    probes: tuple[str, ...]
    ask: Callable[[], float]
    attacked: dict[str, str]


def main() -> None:
    """Measure and report."""
    report = Report("strangers")
    os.sched_setaffinity(0, {LOAD_CORE})
    servers: dict[str, Callable[[], contextlib.AbstractContextManager[Target]]] = {"app": app, "functions": function}
    if shutil.which("nginx"):
        servers["app behind nginx"] = behind_nginx
    cases = {name: (*SLOW, *(("flood",) if name == "app" else ())) for name in servers}
    found: dict[tuple[str, str], tuple[Seen, Seen]] = {}
    with progress("strangers", sum(map(len, cases.values()))) as step:
        for name, start in servers.items():
            with start() as target:
                for kind in cases[name]:
                    found[name, kind] = attacked(target, kind)
                    step()
                    time.sleep(SETTLE_SECONDS)
    figures(report, found)
    report.write()


def figures(report: Report, found: dict[tuple[str, str], tuple[Seen, Seen]]) -> None:
    """Add the rows and ratios."""
    for (name, kind), (before, during) in found.items():
        case = f"{name}, {kind}"
        if name != "functions":
            report.row(case, "probes that answered", 100 * during.success, "%")
            report.row(case, "probe p95", quantile(during.probe_seconds or [PROBE_SECONDS], 0.95) * 1e3, "ms")
        report.row(case, "p95 before", before.p95 * 1e3, "ms")
        report.row(case, "p95 meanwhile", during.p95 * 1e3, "ms")
        report.row(case, "failed", during.failed, "requests")
        report.row(case, "hostile clients, of the clients' core", 100 * during.hostile, "%")
    worst: dict[str, float] = {}
    for name in dict.fromkeys(name for name, _ in found):
        of_name = {kind: pair for (each, kind), pair in found.items() if each == name}
        for kind, (before, during) in of_name.items():
            worst[f"{name}, {kind}"] = during.p95 / before.p95
            report.ratio(f"{_slug(name)}_p95_{_slug(kind)}_vs_before", during.p95 / before.p95)
        if name != "functions":
            report.ratio(
                f"{_slug(name)}_probe_success",
                min(during.success for _, during in of_name.values()),
                more_is_better=True,
            )
    for kind in SLOW:
        if ("app behind nginx", kind) in found:
            report.ratio(
                f"p95_{_slug(kind)}_vs_nginx", found["app", kind][1].p95 / found["app behind nginx", kind][1].p95
            )


def _slug(text: str) -> str:
    return text.replace(" ", "_")


def attacked(target: Target, kind: str) -> tuple[Seen, Seen]:
    """Measure before and while clients of one kind hold on."""
    for _ in range(5):
        target.ask()
    before = measured(target)
    with hostile(target, kind) as clients:
        time.sleep(SETTLE_SECONDS)
        began, used = time.monotonic(), cpu_seconds([clients])
        during = measured(target)
        during.hostile = (cpu_seconds([clients]) - used) / (time.monotonic() - began)
        return before, during


def measured(target: Target) -> Seen:
    """Probe the server, and ask it as a user, for ``SECONDS``."""
    seen = Seen()
    over = time.monotonic() + SECONDS

    def probe() -> None:
        number = 0
        while time.monotonic() < over:
            number += 1
            path = target.probes[number % len(target.probes)]
            began = time.perf_counter()
            seen.probes += 1
            if probed(target.port, path):
                seen.probe_seconds.append(time.perf_counter() - began)
            else:
                seen.probes_failed += 1
            time.sleep(PACE)

    probing = threading.Thread(target=probe)
    if target.probes:
        probing.start()
    while time.monotonic() < over:
        try:
            seen.seconds.append(target.ask())
        except (OSError, http.client.HTTPException):
            seen.failed += 1
        time.sleep(PACE)
    if target.probes:
        probing.join()
    return seen


def probed(port: int, path: str) -> bool:
    """Whether a probe on a connection of its own is answered with 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def hostile(target: Target, kind: str) -> Iterator[int]:
    """Clients of one kind, in a process of their own; its id."""
    count = FLOODING if kind == "flood" else CLIENTS
    command = [sys.executable, str(ROOT / "bench" / "hostile_clients.py"), str(target.port), kind, str(count)]
    clients = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **target.attacked}
    )
    assert clients.stdin is not None
    assert clients.stdout is not None
    try:
        if clients.stdout.readline().strip() != "ready":
            raise OSError("the clients did not start")
        yield clients.pid
        clients.stdin.write("\n")
        clients.stdin.flush()
        print(f"\n  {target.name}, {kind}: {clients.stdout.readline().strip()}", file=sys.stderr)
    finally:
        clients.kill()
        clients.wait()


@contextlib.contextmanager
def app() -> Iterator[Target]:
    """The template's app under its own gunicorn settings."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = app_folder(Path(scratch) / "app")
        port = free_port()
        command = ["-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]
        with process([sys.executable, *command], port, core=SERVER_CORE, cwd=folder, env={"PORT": str(port)}):
            while not probed(port, "/ready"):
                time.sleep(0.05)
            token = Client(port, "mallory").token
            yield Target("app", port, ("/live", "/ready"), turns(port), {"HOSTILE_TOKEN": token})


@contextlib.contextmanager
def behind_nginx() -> Iterator[Target]:
    """Serve the app with nginx in front of it."""
    with app() as direct, tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        config = Path(scratch) / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;\n"
            f"fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\n"
            f"upstream app {{ server 127.0.0.1:{direct.port}; keepalive 64; }}\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app;\n"
            'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }\n} }\n'
        )
        with process([str(shutil.which("nginx")), "-c", str(config), "-p", scratch], port, core=SERVER_CORE):
            yield Target("app behind nginx", port, direct.probes, turns(port), direct.attacked)


@contextlib.contextmanager
def function() -> Iterator[Target]:
    """The functions' server, where a user whose token holds asks for something that it refuses."""
    port, path = free_port(), "/apps/my-app/join"
    with tempfile.TemporaryDirectory() as scratch:
        folder = app_folder(Path(scratch) / "app")
        command = ["-m", "functions_framework", "--target", "membership", "--port", str(port), "--host", "127.0.0.1"]
        # With an emulator's address, where nothing is, tokens need no signature.
        environ = {"GOOGLE_CLOUD_PROJECT": "demo-project", "APPS": str(folder)}
        environ["FIREBASE_AUTH_EMULATOR_HOST"] = environ["FIRESTORE_EMULATOR_HOST"] = f"127.0.0.1:{free_port()}"
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = f"Bearer {unsigned_token('demo-project', {'sub': 'ada'})}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

        def ask() -> None:
            again(connection, lambda: connection.request("POST", path, b'{"invite": ""}', headers), 400)

        with process([sys.executable, *command], port, core=SERVER_CORE, cwd=ROOT / "functions", env=environ):
            yield Target("functions", port, (), lambda: timed(ask), {"HOSTILE_PATH": path, "HOSTILE_LARGE": path})


def turns(port: int) -> Callable[[], float]:
    """Turns of users who take turns, so that none of them comes near the limits of a user; each call is one."""
    users = cycle([User(port, f"ada-{number}") for number in range(USERS)])
    return lambda: next(users).turn()


class User(Client):
    """A signed-in user, who opens another connection where the server has closed theirs."""

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request; its answer's JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": kind}
        return again(self._connection, lambda: self._connection.request(method, path, data, headers))


def again(connection: http.client.HTTPConnection, send: Callable[[], None], expected: int | None = None) -> Any:
    """Send a request, once more where the connection was closed meanwhile, as each client does; the answer's JSON."""
    connection.timeout = 10
    for attempt in (1, 2):
        try:
            send()
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()
            if attempt == 2:
                raise
            continue
        content = answer.read()
        if answer.status != expected if expected else answer.status >= 300:
            raise OSError(f"{answer.status} {content[:300]!r}")
        return json.loads(content)
    return None
