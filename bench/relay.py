"""What relaying a model's stream costs, beside the usual ways and beside nginx passing the bytes.

One fast upstream (``bench/relay_upstream.py``) streams 200 tokens a completion, as OpenAI does: a role first, then the
text, the usage last. The first token is the first text that a client gets. Each server under test runs on one
core, the upstream and the clients on the other; the servers take turns. CPU is that of the server's
processes, from ``/proc``, for each 100,000 tokens that its clients received. Ours does the whole turn: token,
admission, metering, checkpoints and settling, on SQLite.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import Report, progress, size

ROOT = Path(__file__).parent.parent
TEMPLATE = next((ROOT / "template").glob("*/firelaunch.toml")).parent
TOKENS = size(200, 100)
PACE = size(20, 200)
UNPACED_COMPLETIONS = size(400, 4)
MANY, MOST = size((100, 500), (4, 6))
"""Streams at a time, at PACE tokens a second."""

MARK = b"word"
CLOSES = size(20, 4)
REPEATED = b"event: done"
"""After this the answer comes once more, whole."""

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds; what a process used is counted in these, and a short round may use less than one."""

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


@dataclass
class Load:
    """What clients saw, and what CPU (seconds) and memory (bytes, the most) they cost the server."""

    asked: int = 0
    tokens: int = 0
    failed: int = 0
    cpu: float = 0.0
    memory: int = 0
    seconds: float = 0.0
    firsts: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    @property
    def cpu_per_100_000(self) -> float:
        """CPU seconds for 100,000 tokens."""
        return max(self.cpu, TICK) / max(self.tokens, 1) * 100_000


@dataclass
class Target:
    """A server under test: its processes, and how to ask it."""

    name: str
    port: int
    pids: list[int]
    requests: list[bytes]


def main() -> None:
    """Measure and report."""
    report = Report("relay")
    # Name, streams at a time, whether at 20 tokens a second, and rounds: more of them where a round is short.
    cases = [
        ("unpaced", 16, False, size(3, 1)),
        (f"{MANY} streams", MANY, True, size(2, 1)),
        (f"{MOST} streams", MOST, True, 1),
    ]
    servers = {"firelaunch": ours, "fastapi + AsyncOpenAI": fastapi, "flask + openai": flask, "nginx": nginx}
    if shutil.which("nginx") is None:
        del servers["nginx"]
    cpu: dict[tuple[str, str], float] = {}
    with upstream() as port, progress("relay", sum(rounds for *_, rounds in cases) * len(servers) - size(4, 1)) as step:
        for case, streams, paced, rounds in cases:
            direct = run(Target("upstream", port, [], [plain(paced)]), streams, paced=paced)
            report.row(f"upstream alone, {case}", "tokens a second", direct.tokens / direct.seconds, "tokens/s")
            found = {name: Load() for name in servers if (name, streams) != ("flask + openai", MOST)}
            for number in range(rounds):
                # By turns, and each second time in the other order: the machine's own speed drifts.
                for name in list(found)[:: -1 if number % 2 else 1]:
                    if name == "flask + openai" and number:
                        continue  # it is in no ratio
                    with servers[name](port, streams, paced) as target:
                        measure(target, streams, paced, found[name])
                    step()
            for name, load in found.items():
                figures(report, f"{name}, {case}", load, direct, streams, paced)
                cpu[name, case] = load.cpu_per_100_000
        closing = close_seconds(port)
    report.row("firelaunch", f"upstream closed after the client left (longest of {CLOSES})", max(closing), "s")
    us, many, most = "firelaunch", f"{MANY} streams", f"{MOST} streams"
    report.ratio(
        "fastapi_openai_vs_us_unpaced",
        cpu["fastapi + AsyncOpenAI", "unpaced"] / cpu[us, "unpaced"],
        more_is_better=True,
    )
    report.ratio(
        f"fastapi_openai_vs_us_{MANY}", cpu["fastapi + AsyncOpenAI", many] / cpu[us, many], more_is_better=True
    )
    if "nginx" in servers:
        report.ratio(f"us_vs_nginx_{MANY}", cpu[us, many] / cpu["nginx", many])
        report.ratio(f"us_vs_nginx_{MOST}", cpu[us, most] / cpu["nginx", most])
    rows = {(row["case"], row["metric"]): row["value"] for row in report.rows}
    report.ratio(f"kept_up_{MOST}", rows[f"{us}, {most}", "kept up"], more_is_better=True)
    report.write()


def measure(target: Target, streams: int, paced: bool, load: Load) -> None:
    """One round of a server that was just started; what it used and what its clients saw is added to ``load``."""
    before, memory = cpu_seconds(target.pids), rss(target.pids)
    peak = Peak(target.pids)
    one = run(target, streams, paced=paced, peak=peak)
    load.cpu += cpu_seconds(target.pids) - before
    load.memory = max(load.memory, peak.most - memory)
    load.tokens += one.tokens
    load.failed += one.failed
    load.asked += one.asked
    load.firsts += one.firsts
    load.took += one.took


def figures(report: Report, case: str, load: Load, direct: Load, streams: int, paced: bool) -> None:
    """The rows of one server in one case."""
    report.row(case, "CPU per 100,000 tokens", load.cpu_per_100_000, "s")
    report.row(case, "failed", load.failed, "streams")
    if not load.firsts:
        return
    added = percentile(load.firsts, 95) - percentile(direct.firsts, 50)
    report.row(case, "added time to first token, p95", added * 1000, "ms")
    report.row(case, "memory a stream", load.memory / streams / 1024, "kB")
    if paced:
        # A stream is kept up with if it ends when the upstream alone would have ended it, within half a second.
        should = TOKENS / PACE + 0.5
        report.row(case, "kept up", sum(took <= should for took in load.took) / load.asked, "of all streams")


def percentile(values: list[float], share: int) -> float:
    """The smallest value that ``share`` percent of ``values`` are not above."""
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]


# The servers.


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """The fast model server."""
    port = free_port()
    with process([sys.executable, str(ROOT / "bench" / "relay_upstream.py"), str(port)], port, core=LOAD_CORE):
        yield port


@contextlib.contextmanager
def ours(port: int, streams: int, paced: bool, **environ: str) -> Iterator[Target]:
    """The template's app under its own gunicorn settings."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "app"
        shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
        toml = folder / "firelaunch.toml"
        text = toml.read_text().replace("requests_per_minute = 20\n", "requests_per_minute = 1000000\n")
        text = text.replace("[limits]\n", '[limits]\non_disconnect = "stop"\n')
        toml.write_text(text.replace('daily_usd = "0.50"', 'daily_usd = "1000000"'))
        own = free_port()
        env = {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": "none",
            "OPENAI_MODEL": model(paced),
            "PORT": str(own),
            "CONCURRENCY": str(max(streams, 16)),
            **environ,
        }
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "python:firelaunch.server.gunicorn_config",
            "app:create_app()",
        ]
        with process(command, own, core=SERVER_CORE, cwd=folder, env=env) as pid:
            requests = [turn(own, f"user{number}") for number in range(streams)]
            target = Target("firelaunch", own, family(pid), requests)
            warm(target)
            yield target


@contextlib.contextmanager
def fastapi(port: int, _streams: int, paced: bool) -> Iterator[Target]:
    """FastAPI with AsyncOpenAI, as its documentation has it."""
    yield from reference("fastapi", port, paced)


@contextlib.contextmanager
def flask(port: int, streams: int, paced: bool) -> Iterator[Target]:
    """Flask under gunicorn's threads, with the openai package's stream."""
    yield from reference("flask", port, paced, threads=streams + 4)


def reference(kind: str, port: int, paced: bool, threads: int = 4) -> Iterator[Target]:
    """One of the usual ways."""
    own = free_port()
    env = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "none", "MODEL": model(paced)}
    at, module = f"127.0.0.1:{own}", "bench.relay_references"
    commands = {
        "fastapi": ["uvicorn", "--factory", f"{module}:fastapi_app", "--port", str(own), "--no-access-log"],
        "flask": ["gunicorn", "--threads", str(threads), "-b", at, "--no-control-socket", f"{module}:flask_app()"],
    }
    command = [sys.executable, "-m", *commands[kind]]
    with process(command, own, core=SERVER_CORE, cwd=ROOT, env=env) as pid:
        target = Target(kind, own, [], [plain(paced)])
        warm(target)  # gunicorn listens before its worker is there
        target.pids += family(pid)
        yield target


@contextlib.contextmanager
def nginx(port: int, _streams: int, paced: bool) -> Iterator[Target]:
    """nginx passing bytes."""
    own = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;\n"
            f"fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\n"
            f"server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://127.0.0.1:{port};\n"
            "proxy_buffering off; proxy_http_version 1.1; }\n} }\n"
        )
        command = [str(shutil.which("nginx")), "-c", str(config), "-p", scratch]
        with process(command, own, core=SERVER_CORE) as pid:
            yield Target("nginx", own, family(pid), [plain(paced)])


@contextlib.contextmanager
def process(
    command: list[str], port: int, *, core: int, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[int]:
    """A server on one core, once it listens."""
    around = {k: v for k, v in os.environ.items() if not k.startswith(("FIRELAUNCH_", "OPENAI_", "PYTHONDONT"))}
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=cwd,
            env={**around, "PYTHONPATH": str(ROOT), **(env or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(port, started, log)
            yield started.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def wait_for(port: int, started: subprocess.Popen[bytes], log: Any) -> None:
    """Wait until a port answers."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if started.poll() is not None:
            log.seek(0)
            raise RuntimeError(log.read().decode())
        time.sleep(0.05)
    raise RuntimeError("it did not come up")


# The clients.


def model(paced: bool) -> str:
    """The upstream's two models."""
    return "paced" if paced else "fast"


def plain(paced: bool) -> bytes:
    """A chat completion's request, for the upstream itself and whatever passes it on."""
    body = {"model": model(paced), "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    return post("/v1/chat/completions", json.dumps(body | {"stream_options": {"include_usage": True}}).encode())


def turn(port: int, uid: str) -> bytes:
    """A message's request to our app, in a chat of its user's own."""
    token = call(port, "/dev/token", {"uid": uid}, None)["token"]
    chat = call(port, "/v1/chats", {}, token)["id"]
    headers = f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
    return post(f"/v1/chats/{chat}/messages", b'{"text": "Hello"}', headers)


def call(port: int, path: str, body: dict[str, Any], token: str | None) -> dict[str, Any]:
    """One plain call of our app."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Peak:
    """The most memory that processes had."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.most = 0

    def look(self) -> None:
        self.most = max(self.most, rss(self.pids))


def warm(target: Target) -> None:
    """One stream, so that imports and pools are there."""
    asyncio.run(stream(target.port, target.requests[0], Load()))


def run(target: Target, streams: int, *, paced: bool, peak: Peak | None = None) -> Load:
    """All streams of a case: paced ones begin evenly over one stream's time, so that all meet for a while."""
    os.sched_setaffinity(0, {LOAD_CORE})
    load = Load()

    async def paced_run() -> None:
        gap = TOKENS / PACE / streams
        tasks = []
        for number in range(streams):
            tasks.append(asyncio.create_task(stream(target.port, target.requests[number % len(target.requests)], load)))
            await asyncio.sleep(gap)
            if peak is not None and number % 20 == 0:
                peak.look()
        if peak is not None:
            peak.look()
        await asyncio.gather(*tasks)

    async def unpaced_run() -> None:
        left = iter(range(UNPACED_COMPLETIONS))

        async def one(number: int) -> None:
            for _ in left:
                await stream(target.port, target.requests[number % len(target.requests)], load)
                if peak is not None:
                    peak.look()

        await asyncio.gather(*(one(number) for number in range(streams)))

    began = time.perf_counter()
    asyncio.run(paced_run() if paced else unpaced_run())
    load.seconds = time.perf_counter() - began
    os.sched_setaffinity(0, set(CORES))
    return load


async def stream(port: int, request: bytes, load: Load) -> None:
    """One stream, read to its end."""
    load.asked += 1
    began = time.perf_counter()
    first = None
    tokens = 0
    rest, done = b"", False
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        while data := await reader.read(65_536):
            data = rest + data
            found = 0 if done else data.partition(REPEATED)[0].count(MARK)
            done = done or REPEATED in data
            if found and first is None:
                first = time.perf_counter() - began
            tokens += found
            # A mark may be cut in two by the pieces; one that was whole is not counted again.
            rest = b"" if data.endswith(MARK) else data[-(len(MARK) - 1) :]
        writer.close()
    except OSError:
        pass
    load.tokens += tokens
    if tokens != TOKENS:
        load.failed += 1
    if first is not None:
        load.firsts.append(first)
        load.took.append(time.perf_counter() - began)


def close_seconds(port: int) -> list[float]:
    """How long the upstream's connection outlives a client that leaves: half of them before the first token."""
    found = []
    with ours(port, 16, True) as target:
        for number in range(CLOSES):
            silent = number % 2 == 0
            body = b'{"text": "silent"}' if silent else b'{"text": "Hello"}'
            request = target.requests[number % len(target.requests)]
            head = request.partition(b"\r\n\r\n")[0].rpartition(b"Content-Length")[0]
            request = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
            with socket.create_connection(("127.0.0.1", target.port)) as client:
                client.sendall(request)
                seen = b""
                while (b"event: start" if silent else MARK) not in seen:
                    seen += client.recv(65_536)
                give_up = time.monotonic() + 5
                while control(port)["open"] == 0 and time.monotonic() < give_up:
                    time.sleep(0.005)
            left = time.perf_counter()
            while control(port)["open"]:
                time.sleep(0.002)
                if time.perf_counter() - left > 30:
                    break
            found.append(time.perf_counter() - left)
    return found


def control(port: int) -> dict[str, int]:
    """What the upstream says of itself."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := sock.recv(4096):
            data += piece
    found: dict[str, int] = json.loads(data.rpartition(b"\r\n\r\n")[2])
    return found


# What the machine says.


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def cpu_seconds(pids: list[int]) -> float:
    """CPU seconds that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK


def rss(pids: list[int]) -> int:
    """Bytes of memory that processes hold."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
