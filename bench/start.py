"""How long an app takes from the start of its process to its first answers, and what it holds in memory.

The reference is a bare Flask app (one route, nothing else) under the same gunicorn with the same settings. All are
started in turn, so that they see the same machine; figures are medians. Cloud mode is what is deployed, with the
Firestore emulator and a server of certificates in Google's place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firelaunch.prompts.lock import lock
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import Emulator, EmulatorUnavailable

from bench.relay import cpu_seconds, family, free_port, upstream
from bench.report import Report, progress, size

RUNS, UNCOUNTED = size((9, 1), (1, 0))
FLASK, OFFLINE = "bare Flask", "firelaunch, embedded"
JSON, STREAMED = "firelaunch, embedded, a model over HTTP", "firelaunch, embedded, the same streamed"
CLOUD_MODE = "firelaunch, cloud mode"
TEMPLATE = Path(__file__).parent.parent / "template" / "{{cookiecutter.app_slug}}"
BARE = """
from flask import Flask

def create_app():
    app = Flask(__name__)

    @app.get("/live")
    def live():
        return {"status": "ok"}

    return app
"""


CLOUD = """
import os
from dataclasses import replace

from app import ROOT, workflow
from firelaunch import App, Settings, build, init_app
from firelaunch.services.deferred import deferred


def identity():
    from firelaunch.identity.firebase import FirebaseIdentity

    return FirebaseIdentity("demo-bench", "my-app", certificates_url=os.environ["CERTIFICATES"])


def create_app():
    # Settings refuse an emulator in cloud mode; Google's client finds it in the process's own environment.
    environ = {name: value for name, value in os.environ.items() if name != "FIRESTORE_EMULATOR_HOST"}
    services = build(Settings.load(ROOT / "firelaunch.toml", environ))
    app = App("app")
    init_app(app, replace(services, identity=deferred(identity)), workflow.answer)
    return app
"""


@dataclass
class Start:
    """One start: seconds to the first 200 and to the end of the first turn (0 where there is none), resident MB.

    ``cpu`` is the seconds of processor time until the first 200, which other work of the machine changes least.
    """

    first_200: float
    cpu: float
    first_turn: float
    worker_mb: float
    total_mb: float


@dataclass
class Case:
    """An app to start: its folder, its factory, what its environment adds, and how its first turn is asked for.

    ``token`` is the user's; None for a dev token, and "" where there is no turn.
    """

    name: str
    folder: Path
    factory: str = "app:create_app()"
    environ: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    streamed: bool = False


def main() -> None:
    """Measure and report."""
    report = Report("start")
    with contextlib.ExitStack() as stack:
        cases = list(prepared(stack, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        starts: dict[str, list[Start]] = {case.name: [] for case in cases}
        with progress("start", (RUNS + UNCOUNTED) * len(cases)) as step:
            for run in range(RUNS + UNCOUNTED):
                for case in cases:
                    measured = one_start(case)
                    step()
                    if run >= UNCOUNTED:  # the first one compiles bytecode and warms the disk's cache
                        starts[case.name].append(measured)
    middle = {}
    for name, found in starts.items():
        middle[name] = Start(*(statistics.median(getattr(s, part) for s in found) for part in Start.__annotations__))
        report.row(name, "process start to first 200", middle[name].first_200 * 1000, "ms")
        report.row(name, "CPU until then", middle[name].cpu * 1000, "ms")
        if middle[name].first_turn:
            report.row(name, "process start to the first turn's end", middle[name].first_turn * 1000, "ms")
        report.row(name, "memory of the worker", middle[name].worker_mb, "MB")
        report.row(name, "memory with gunicorn's master", middle[name].total_mb, "MB")
    flask, us = middle[FLASK], middle[OFFLINE]
    report.ratio("time_vs_flask", us.first_200 / flask.first_200)
    report.ratio("cpu_vs_flask", us.cpu / flask.cpu)
    report.ratio("first_turn_vs_flask_first_200", us.first_turn / flask.first_200)
    report.ratio("rss_vs_flask", us.worker_mb / flask.worker_mb)
    report.ratio("rss_total_vs_flask", us.total_mb / flask.total_mb)
    report.ratio("first_json_turn_vs_streamed", middle[JSON].first_turn / middle[STREAMED].first_turn)
    if CLOUD_MODE in middle:
        cloud = middle[CLOUD_MODE]
        report.ratio("cloud_time_vs_flask", cloud.first_200 / flask.first_200)
        report.ratio("cloud_cpu_vs_flask", cloud.cpu / flask.cpu)
        report.ratio("cloud_first_turn_vs_flask_first_200", cloud.first_turn / flask.first_200)
        report.ratio("cloud_rss_vs_flask", cloud.worker_mb / flask.worker_mb)
    report.write()


def prepared(stack: contextlib.ExitStack, scratch: Path) -> Iterator[Case]:
    """The apps, and the servers that they call: a model, and for the cloud certificates and a Firestore emulator."""
    bare, ours = scratch / "bare", scratch / "ours"
    (bare / "app").mkdir(parents=True)
    (bare / "app" / "__init__.py").write_text(BARE)
    yield Case(FLASK, bare, token="")
    shutil.copytree(TEMPLATE, ours, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
    (ours / "served_in_cloud.py").write_text(CLOUD)
    lock(ours / "app" / "prompts")
    yield Case(OFFLINE, ours)
    model = {"OPENAI_BASE_URL": f"http://127.0.0.1:{stack.enter_context(upstream())}/v1", "OPENAI_API_KEY": "none"}
    yield Case(JSON, ours, environ=model)
    yield Case(STREAMED, ours, environ=model, streamed=True)
    try:
        emulator = stack.enter_context(Emulator.start())
    except EmulatorUnavailable as error:
        print(f"cloud mode is not measured: {error}")
        return
    google = stack.enter_context(CertificateServer())
    environ = {
        "FIRELAUNCH_MODE": "cloud",
        "GOOGLE_CLOUD_PROJECT": "demo-bench",
        "FIRESTORE_EMULATOR_HOST": emulator.host,
        "CERTIFICATES": google.url,
    }
    token = google.token("demo-bench", "ada", {"my-app": "member"})
    yield Case(CLOUD_MODE, ours, "served_in_cloud:create_app()", {**model, **environ}, token)


def one_start(case: Case) -> Start:
    """Start an app, ask it, measure it, end it."""
    shutil.rmtree(case.folder / ".firelaunch", ignore_errors=True)
    port = free_port()
    unset = ("OPENAI_", "FIRELAUNCH_", "FIRESTORE_", "FIREBASE_", "GOOGLE_CLOUD_")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", case.factory]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=case.folder,
        env={**environ, "PORT": str(port), "HOST": "127.0.0.1", **case.environ},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_200(f"{url}/live", process)
        first_200, cpu = time.perf_counter() - began, cpu_seconds(family(process.pid))
        first_turn = one_turn(url, case, began) if case.token != "" else 0.0
        sizes = resident(process.pid)
        return Start(first_200, cpu, first_turn, max(sizes), sum(sizes))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_200(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is 200."""
    while True:
        assert process.poll() is None, "the app ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.002)


def one_turn(url: str, case: Case, began: float) -> float:
    """Sign in, make a chat, send a message; seconds since ``began`` at the end."""
    token = case.token or json.loads(call(f"{url}/dev/token", {"uid": "ada"}, None))["token"]
    chat = json.loads(call(f"{url}/v1/chats", {}, token))["id"]
    answer = call(f"{url}/v1/chats/{chat}/messages", {"text": "Hello"}, token, streamed=case.streamed)
    assert b"event: done" in answer if case.streamed else json.loads(answer)["message"]["text"]
    return time.perf_counter() - began


def call(url: str, body: Any, token: str | None, *, streamed: bool = False) -> bytes:
    """POST JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    headers |= {"Accept": "text/event-stream"} if streamed else {}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
        return found


def resident(master: int) -> list[float]:
    """Resident MB of gunicorn's master and of its worker."""
    found = [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]
    return [
        int(line.split()[1]) / 1024
        for pid in found
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
