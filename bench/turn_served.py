"""JSON turns over real HTTP, as many at a time as clients ask for, beside the usual ways and beside what passes bytes.

The model answers at once (``bench/relay_upstream.py``), so what is measured is what each server adds. Ours does the
whole turn on SQLite: token, admission, history, metering and settling. FastAPI with AsyncOpenAI reads as much history
and writes as many rows of the same size to SQLite, in three commits, and checks nothing. The floor is what a turn takes
at least under gunicorn and Flask: our own connection to the model and the same three commits. LiteLLM and nginx pass
the call on; the bare Flask route does nothing. Servers take turns, each on one core, the model and clients on the
other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench.relay import (
    CORES,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    TICK,
    Target,
    cpu_seconds,
    family,
    free_port,
    nginx,
    ours,
    process,
    upstream,
)
from bench.relay import call as api
from bench.report import SHORT, Report, size

AT_ONCE = size((1, 16, 64), (4,))
TURNS = size(400, 8)
ROUNDS = size(3, 1)
US, FASTAPI, LITELLM, NGINX = "firelaunch", "fastapi + AsyncOpenAI", "litellm", "nginx"
FLASK, FLOOR = "bare Flask", "floor"
MASTER_KEY = f"sk-{secrets.token_hex(32)}"
LITELLM_VENV = ROOT / "build" / "litellm"

Server = Callable[[int, int], AbstractContextManager[Target]]


@dataclass
class Load:
    """What clients waited (seconds), and what the server's processes used for it."""

    took: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def p50(self) -> float:
        """Seconds that half of the turns took at most."""
        return statistics.median(self.took)


def measure(report: Report, step: Callable[[], None]) -> None:
    """Add the rows and ratios."""
    with upstream() as port:
        servers = dict(available())
        for at_once in AT_ONCE:
            direct = Load()
            asked(Target("model", port, [], [completion()]), at_once, direct)
            found = {name: Load() for name in servers}
            for number in range(ROUNDS):
                # By turns, and each second time in the other order: the machine's own speed drifts.
                for name in list(found)[:: -1 if number % 2 else 1]:
                    with servers[name](port, at_once) as target:
                        asked(target, at_once, Load(), turns=max(2 * at_once, 8))
                        asked(target, at_once, found[name])
            step()
            figures(report, at_once, direct, found)


def steps() -> int:
    """How often ``measure`` calls its ``step``."""
    return len(AT_ONCE)


def figures(report: Report, at_once: int, direct: Load, found: dict[str, Load]) -> None:
    """The rows and ratios of one number of clients."""
    for name, load in found.items():
        case = f"{name}, {at_once} at a time"
        report.row(case, "added p50", (load.p50 - direct.p50) * 1000, "ms")
        report.row(case, "CPU a turn", load.cpu / len(load.took) * 1000, "ms")
    us, usual = found[US], found[FASTAPI]
    report.ratio(f"added_p50_vs_fastapi_openai_{at_once}", (us.p50 - direct.p50) / (usual.p50 - direct.p50))
    report.ratio(f"turn_cpu_vs_fastapi_openai_{at_once}", us.cpu / usual.cpu)
    report.ratio(f"turn_cpu_vs_floor_{at_once}", us.cpu / max(found[FLOOR].cpu, TICK))
    if LITELLM in found:
        report.ratio(f"added_p50_vs_litellm_{at_once}", (us.p50 - direct.p50) / (found[LITELLM].p50 - direct.p50))


def asked(target: Target, at_once: int, load: Load, turns: int = TURNS) -> None:
    """Have clients ask one turn after the other, each on a connection of its own, until there were ``turns``."""
    os.sched_setaffinity(0, {LOAD_CORE})
    left = iter(range(turns))

    async def client(number: int) -> None:
        request = target.requests[number % len(target.requests)]
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for _ in left:
            began = time.perf_counter()
            writer.write(request)
            await answered(reader)
            load.took.append(time.perf_counter() - began)
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(client(number) for number in range(at_once)))

    before = cpu_seconds(target.pids)
    asyncio.run(all_of_them())
    load.cpu += cpu_seconds(target.pids) - before
    os.sched_setaffinity(0, set(CORES))


async def answered(reader: asyncio.StreamReader) -> None:
    """Read one answer.

    Raises:
        AssertionError: it is no 200.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"chunked" in head:
        while length := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(length + 2)
        await reader.readexactly(2)
        body = b""
    else:
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    assert b" 200 " in head[:20], (head, body)


def post(path: str, body: dict[str, object], headers: str = "") -> bytes:
    """The bytes of a request on a connection that is kept."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def completion(headers: str = "") -> bytes:
    """A chat completion's request, for the model itself and for what passes it on."""
    messages = [{"role": "user", "content": "What is the weather like?"}]
    return post("/v1/chat/completions", {"model": "bench", "messages": messages}, headers)


# The servers.


def available() -> Iterator[tuple[str, Server]]:
    """The servers that can be run here."""
    yield US, firelaunch
    yield FASTAPI, fastapi
    yield FLOOR, floor
    yield FLASK, flask
    if shutil.which("nginx"):
        yield NGINX, passing
    if not SHORT and litellm_installed():
        yield LITELLM, litellm


@contextlib.contextmanager
def firelaunch(port: int, at_once: int) -> Iterator[Target]:
    """The template's app; each client is a user with a chat."""
    with ours(port, at_once, False) as target:
        target.requests = [turn(target.port, f"user{number}") for number in range(at_once)]
        yield target


def turn(port: int, uid: str) -> bytes:
    """A message's request to our app."""
    token = api(port, "/dev/token", {"uid": uid}, None)["token"]
    chat = api(port, "/v1/chats", {}, token)["id"]
    headers = f"Authorization: Bearer {token}\r\n"
    return post(f"/v1/chats/{chat}/messages", {"text": "What is the weather like?"}, headers)


@contextlib.contextmanager
def fastapi(port: int, at_once: int) -> Iterator[Target]:
    """FastAPI with AsyncOpenAI and SQLite."""
    with environment(port) as env:
        app = "bench.turn_references:fastapi_app"
        yield from reference(["uvicorn", "--factory", app, "--no-access-log"], at_once, env)


@contextlib.contextmanager
def floor(port: int, at_once: int) -> Iterator[Target]:
    """Flask under gunicorn's threads, with our connection to the model and SQLite."""
    with environment(port) as env:
        yield from reference([*threads(at_once), "bench.turn_references:floor_app()"], at_once, env)


@contextlib.contextmanager
def flask(_port: int, at_once: int) -> Iterator[Target]:
    """A bare Flask route under gunicorn's threads."""
    yield from reference([*threads(at_once), "bench.turn_references:flask_app()"], at_once, {})


def threads(at_once: int) -> list[str]:
    """gunicorn with a thread for each client."""
    return ["gunicorn", "--threads", str(at_once + 4), "--no-control-socket", "--keep-alive", "75"]


@contextlib.contextmanager
def environment(port: int) -> Iterator[dict[str, str]]:
    """Where a reference finds the model and its database."""
    with tempfile.TemporaryDirectory() as scratch:
        address = f"http://127.0.0.1:{port}/v1"
        yield {"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "none", "DATA": f"{scratch}/data"}


def reference(command: list[str], at_once: int, env: dict[str, str]) -> Iterator[Target]:
    """One of the usual ways; each client has a chat."""
    own = free_port()
    at = ["--port", str(own)] if command[0] == "uvicorn" else ["-b", f"127.0.0.1:{own}"]
    with process(
        [sys.executable, "-m", command[0], *at, *command[1:]], own, core=SERVER_CORE, cwd=ROOT, env=env
    ) as pid:
        text = {"text": "What is the weather like?"}
        target = Target(command[0], own, [], [post(f"/v1/chats/{n}/messages", text) for n in range(at_once)])
        asked(target, 1, Load(), turns=1)  # gunicorn listens before its worker is there
        target.pids += family(pid)
        yield target


@contextlib.contextmanager
def passing(port: int, at_once: int) -> Iterator[Target]:
    """nginx passing the call."""
    with nginx(port, at_once, False) as target:
        target.requests = [completion()]
        yield target


@contextlib.contextmanager
def litellm(port: int, _at_once: int) -> Iterator[Target]:
    """LiteLLM's proxy passing the call."""
    own = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config.yaml"
        model = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
        # JSON is YAML.
        config.write_text(json.dumps({"model_list": [{"model_name": "bench", "litellm_params": model}]}))
        command = [str(LITELLM_VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        env = {"PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER_KEY}
        with process([*command, "--port", str(own)], own, core=SERVER_CORE, cwd=Path(scratch), env=env) as pid:
            yield Target("litellm", own, family(pid), [completion(f"Authorization: Bearer {MASTER_KEY}\r\n")])


def litellm_installed() -> bool:
    """Whether LiteLLM is there; it is installed into an environment of its own if PyPI can be reached."""
    if (LITELLM_VENV / "bin" / "litellm").exists():
        return True
    commands = (
        [sys.executable, "-m", "venv", str(LITELLM_VENV)],
        [str(LITELLM_VENV / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, timeout=600)
    except (subprocess.SubprocessError, OSError):
        shutil.rmtree(LITELLM_VENV, ignore_errors=True)
        print("LiteLLM is not measured: it could not be installed from PyPI", flush=True)
        return False
    return True
