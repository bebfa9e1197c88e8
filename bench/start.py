"""How long an app takes from the start of its process to its first answers, and what it holds in memory.

The reference is a bare Flask app (one route, nothing else) under the same gunicorn with the same settings. The two are
started in turn, so that both see the same machine; figures are medians.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Report, progress, size

RUNS = size(9, 1)
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


@dataclass
class Start:
    """One start: seconds to the first 200 and to the end of the first turn (0 where there is none), resident MB."""

    first_200: float
    first_turn: float
    worker_mb: float
    total_mb: float


def main() -> None:
    """Measure and report."""
    report = Report("start")
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / "bare"
        (bare / "app").mkdir(parents=True)
        (bare / "app" / "__init__.py").write_text(BARE)
        ours = Path(scratch) / "ours"
        shutil.copytree(TEMPLATE, ours, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
        starts: dict[str, list[Start]] = {"bare Flask": [], "firelaunch, embedded": []}
        with progress("start", (RUNS + 1) * 2) as step:
            for run in range(RUNS + 1):
                for name, folder in (("bare Flask", bare), ("firelaunch, embedded", ours)):
                    measured = one_start(folder, turn=folder is ours)
                    step()
                    if run:  # the first one compiles bytecode and warms the disk's cache
                        starts[name].append(measured)
    middle = {}
    for name, found in starts.items():
        middle[name] = Start(*(statistics.median(getattr(s, field) for s in found) for field in Start.__annotations__))
        report.row(name, "process start to first 200", middle[name].first_200 * 1000, "ms")
        report.row(name, "memory of the worker", middle[name].worker_mb, "MB")
        report.row(name, "memory with gunicorn's master", middle[name].total_mb, "MB")
    flask, us = middle.values()
    report.row("firelaunch, embedded", "process start to first authenticated turn", us.first_turn * 1000, "ms")
    report.ratio("time_vs_flask", us.first_200 / flask.first_200)
    report.ratio("first_turn_vs_flask_first_200", us.first_turn / flask.first_200)
    report.ratio("rss_vs_flask", us.worker_mb / flask.worker_mb)
    report.ratio("rss_total_vs_flask", us.total_mb / flask.total_mb)
    report.write()


def one_start(folder: Path, *, turn: bool) -> Start:
    """Start the app in ``folder``, ask it, measure it, end it."""
    shutil.rmtree(folder / ".firelaunch", ignore_errors=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "FIRELAUNCH_"))}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environ, "PORT": str(port), "HOST": "127.0.0.1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_200(f"{url}/live", process)
        first_200 = time.perf_counter() - began
        first_turn = one_turn(url, began) if turn else 0.0
        sizes = resident(process.pid)
        return Start(first_200, first_turn, max(sizes), sum(sizes))
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


def one_turn(url: str, began: float) -> float:
    """Sign in, make a chat, send a message; seconds since ``began`` at the end."""
    token = call(f"{url}/dev/token", {"uid": "ada"}, None)["token"]
    chat = call(f"{url}/v1/chats", {}, token)["id"]
    answer = call(f"{url}/v1/chats/{chat}/messages", {"text": "Hello"}, token)
    assert answer["message"]["text"]
    return time.perf_counter() - began


def call(url: str, body: Any, token: str | None) -> Any:
    """POST JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def resident(master: int) -> list[float]:
    """Resident MB of gunicorn's master and of its worker."""
    found = [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]
    return [
        int(line.split()[1]) / 1024
        for pid in found
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
