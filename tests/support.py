"""Real app folders, served by real gunicorn processes."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import app_forks
import httpx
from app_forks import ForkedProcess

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "template" / "{{cookiecutter.app_slug}}"
PYTHON = sys.executable

T = TypeVar("T")

Process = ForkedProcess | subprocess.Popen[bytes]

APP_CODE = """
import os
from pathlib import Path

from firelaunch import App, Settings, build, init_app


def create_app():
    app = App(__name__)
    settings = Settings.load(Path(__file__).parent.parent / "firelaunch.toml", os.environ)
    init_app(app, build(settings), lambda turn: iter(()))
    return app
"""
"""The code of an app that answers nothing, for folders that have settings alone."""


def clean_environ(**more: str) -> dict[str, str]:
    """The environment without what would change how an app runs."""
    unset = (
        "FIRELAUNCH_",
        "OPENAI_",
        "FIRESTORE_",
        "FIREBASE_",
        "GOOGLE_CLOUD_",
        "K_SERVICE",
        "STRIPE_",
        "PYTEST_",
        "PORT",
        "HOST",
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    # Bytecode is written, as it is on a user's machine: without it each start would compile everything.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    kept["FIRELAUNCH_WEB"] = ""  # no web client is built: that takes npm, and the network
    # An app's environment has no schemathesis, whose plugin would take each pytest half a second.
    kept["PYTEST_ADDOPTS"] = "-p no:schemathesis"
    return {**kept, **more}


@dataclass
class Server:
    """A served app."""

    process: Process
    url: str
    log: Path
    client: httpx.Client

    def sign_in(self, uid: str, **more: str) -> User:
        """A dev user."""
        answer = self.client.post("/dev/token", json={"uid": uid, **more})
        assert answer.status_code == 200, answer.text
        return User(self.client, {"Authorization": f"Bearer {answer.json()['token']}"})

    def kill(self) -> None:
        """kill -9 of gunicorn and its worker."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class User:
    """A signed-in user of a served app."""

    client: httpx.Client
    headers: dict[str, str]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request."""
        return self.client.request(method, path, json=body, headers={**self.headers, **headers})

    def new_chat(self) -> str:
        """A new chat's id."""
        chat: str = self.call("POST", "/v1/chats", {}).json()["id"]
        return chat

    def send(self, chat: str, text: str, **headers: str) -> httpx.Response:
        """Send a message."""
        return self.call("POST", f"/v1/chats/{chat}/messages", {"text": text}, **headers)

    def texts(self, chat: str) -> list[str]:
        """The texts of a chat's messages."""
        return [m["text"] for m in self.call("GET", f"/v1/chats/{chat}").json()["messages"]]


_PORTS = range(20_000, 32_000)
"""Ports that no system gives to who asks for any, so that none is taken before the process that it is for has it."""


def free_port() -> int:
    """A port that nobody has, and that no other test of this machine is given for a long time."""
    last = os.open(f"{tempfile.gettempdir()}/firelaunch-tests-port-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(last, fcntl.LOCK_EX)
        port = int(os.pread(last, 5, 0) or _PORTS[0])
        while True:
            port = port + 1 if port + 1 in _PORTS else _PORTS[0]
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                break
        os.pwrite(last, str(port).encode(), 0)
    finally:
        os.close(last)
    return port


@contextmanager
def served(folder: Path, *, forked: bool = True, **environ: str) -> Iterator[Server]:
    """The app in ``folder`` under gunicorn, as ``make serve`` runs it.

    Args:
        forked: whether gunicorn is forked from a process that has its modules. It starts sooner, and shares memory.
    """
    port = free_port()
    log = folder / "server.log"
    words = ["-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]
    with log.open("ab") as out:
        start = app_forks.start if forked else _gunicorn
        process = start(words, folder, clean_environ(PORT=str(port), HOST="127.0.0.1", **environ), out)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        try:
            _wait_until_ready(process, client, log)
            yield Server(process, url, log, client)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)


def _gunicorn(words: list[str], folder: Path, environ: dict[str, str], out: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gunicorn", *words]
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=out, start_new_session=True)


def _wait_until_ready(process: Process, client: httpx.Client, log: Path) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"the app did not come up:\n{log.read_text()}")


def copy_template(target: Path) -> Path:
    """The raw template as an app folder."""
    return _copy_app(TEMPLATE, target)


def copy_example(name: str, target: Path) -> Path:
    """An example's folder as its repo holds it."""
    return _copy_app(ROOT / "examples" / name, target)


def _copy_app(source: Path, target: Path) -> Path:
    ignored = shutil.ignore_patterns(".firelaunch", "__pycache__", ".*_cache", "node_modules", "dist")
    return Path(shutil.copytree(source, target, ignore=ignored))


def copy_with_own_routes(target: Path) -> Path:
    """The raw template with routes and collections of its own, as ``own_routes/meals.py`` has them."""
    folder = copy_template(target)
    shutil.copy(Path(__file__).parent / "own_routes" / "meals.py", folder / "app")
    package, settings = folder / "app" / "__init__.py", folder / "firelaunch.toml"
    text = package.read_text().replace("from . import workflow", "from . import meals, workflow")
    declared = "routes=[meals.routes, meals.recipe_routes, meals.menu_routes], collections=[meals.meals, meals.recipes]"
    package.write_text(text.replace("App(__name__)", f"App(__name__, {declared})"))
    free = "[plans.free]\n"
    settings.write_text(settings.read_text().replace(free, f'{free}features = ["diary"]\n'))
    return folder


def copy_repo(target: Path) -> Path:
    """What a clone of this repo would hold if all that is here were committed, with this repo's .venv for its own.

    Run make there with ``MAKE_HERE``, or it would set the copy up as a clone of its own.
    """
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return target


@contextmanager
def mypy_cache() -> Iterator[dict[str, str]]:
    """The environment in which mypy knows of the packages what it found for another app; one run at a time."""
    folder = ROOT / "build" / "mypy"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        yield {"MYPY_CACHE_DIR": str(folder / "cache")}


MAKE_HERE = {"PYTHON": "true"}
"""The environment in which make takes the set-up as done: what is to run it does nothing."""


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What ``make`` makes in a folder of its own, made by the first worker of a run that needs it, for all of them.

    It must be something that pickles, and nobody may change it.
    """
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"once-{name}"
    folder.mkdir(exist_ok=True)
    made = folder / "made.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder / "files", ignore_errors=True)  # of a worker that failed
            (folder / "files").mkdir()
            made.write_bytes(pickle.dumps(make(folder / "files")))
    found: T = pickle.loads(made.read_bytes())  # noqa: S301 - a worker wrote it
    return found


@contextmanager
def served_function(name: str, folder: Path, **environ: str) -> Iterator[str]:
    """The function ``name`` under functions-framework, which logs to ``folder``; its address."""
    port = free_port()
    log, url = folder / f"{name}-{port}.log", f"http://127.0.0.1:{port}"
    folder = ROOT / "functions"
    words = ["--target", name, "--source", str(folder / "main.py"), "--port", str(port), "--host", "127.0.0.1"]
    with log.open("wb") as out:
        process = app_forks.start(words, folder, clean_environ(**environ), out, "functions_framework")
    try:
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)  # gunicorn gives what is being answered 30 seconds
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_answers(url: str, process: ForkedProcess, log: Path) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(url, trust_env=False, timeout=30)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
