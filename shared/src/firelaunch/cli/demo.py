"""``firelaunch demo``: a new app that answers, in one command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .apps import repo_root
from .new import bake
from .serve import gunicorn_command

__all__ = ["command"]

_QUESTIONS = ("What can you do for me?", "And what happens to what I write here?")
_START_SECONDS = 60.0
_ANSWER_SECONDS = 180.0


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the exchange rather than stay up.")
@click.option("--port", type=int, default=None, help="Port to listen on; 8080, or another where that is taken.")
def command(once: bool, port: int | None) -> None:
    """Make apps/demo if it is not there, start it, ask it two questions, and show what they cost."""
    root = repo_root()
    app = root / "apps" / "demo"
    if not (app / "firelaunch.toml").is_file():
        _say("Making apps/demo with cookiecutter")
        bake(root, ask=False, app_name="Demo", app_slug="demo", description="Shows what firelaunch does.")
    port = port or _free_port()
    url = f"http://localhost:{port}"
    _say(f"Starting apps/demo under gunicorn on {url}")
    with _served(app, port) as (process, log):
        _wait(url, process, log)
        _exchange(url)
        if not once:
            _stay_up(url, process)


@contextlib.contextmanager
def _served(app: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = app / ".firelaunch" / "demo.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    environ = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1", "FIRELAUNCH_MODE": "embedded"}
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            gunicorn_command(), cwd=app, env=environ, stdout=out, stderr=out, start_new_session=True
        )
    # A demo that is told to end takes its server along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < _START_SECONDS:
        if process.poll() is not None:
            break
        try:
            ready = _call("GET", f"{url}/readyz")
        except OSError:
            time.sleep(0.02)
            continue
        who = ready["model"]
        _say(f"Ready after {time.monotonic() - began:.1f} s; " + _who_answers(who))
        return
    raise click.ClickException(f"The app did not start. It said:\n{log.read_text(errors='replace')[-2000:]}")


def _who_answers(model: str) -> str:
    if model == "offline":
        return "the offline model answers, because OPENAI_API_KEY is not set"
    server = os.environ.get("OPENAI_BASE_URL") or "OpenAI"
    return f"a model of {server} answers"


def _exchange(url: str) -> None:
    token = _call("POST", f"{url}/dev/token", {"uid": "ada"})["token"]
    _say("Signed in as the dev user 'ada'")
    chat = _call("POST", f"{url}/v1/chats", {}, token)["id"]
    send = f"{url}/v1/chats/{chat}/messages"

    click.echo(f"\nYou    {_QUESTIONS[0]}   (one JSON answer)")
    began = time.monotonic()
    answer = _call("POST", send, {"text": _QUESTIONS[0]}, token)
    click.echo(f"Model  {answer['message']['text']}")
    click.echo(f"       {_cost(answer['usage'])}, {(time.monotonic() - began) * 1000:.0f} ms")

    click.echo(f"\nYou    {_QUESTIONS[1]}   (streamed)")
    click.echo("Model  ", nl=False)
    _stream(send, _QUESTIONS[1], token)

    usage = _call("GET", f"{url}/v1/usage", token=token)
    click.echo(
        f"\nUsage of 'ada' today: {usage['requests']} requests, {usage['input_tokens']} tokens in, "
        f"{usage['output_tokens']} out, {_dollars(usage['cost_micro_usd'])} "
        f"of {_dollars(usage['limit']['daily_micro_usd'])}\n"
    )
    click.echo(
        f"Try it yourself:\n"
        f"  TOKEN=$(curl -s {url}/dev/token -H 'Content-Type: application/json' -d '{{\"uid\": \"ada\"}}' "
        f"| sed 's/.*: *\"//; s/\".*//')\n"
        f"  curl -N {send} -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' "
        f"-H 'Accept: text/event-stream' -d '{{\"text\": \"Hello\"}}'\n"
    )


def _stream(url: str, question: str, token: str) -> None:
    began, first = time.monotonic(), None
    for name, data in _events(url, {"text": question}, token):
        if name == "delta":
            first = first or time.monotonic() - began
            click.echo(data["text"], nl=False)
            sys.stdout.flush()
        elif name == "error":
            raise click.ClickException(f"The stream failed: {data['error']['message']}")
        elif name == "done":
            milliseconds = (first or 0) * 1000
            click.echo(f"\n       {_cost(data['usage'])}, first words after {milliseconds:.0f} ms")
            return
    raise click.ClickException("The stream ended without its last event.")


def _stay_up(url: str, process: subprocess.Popen[bytes]) -> None:
    click.echo(f"The app stays up at {url} until Ctrl-C. To change what it does, edit apps/demo/app/workflow.py.")
    with contextlib.suppress(KeyboardInterrupt):
        process.wait()
    click.echo("\nStopped.")


def _cost(usage: dict[str, Any]) -> str:
    about = "about " if usage["estimated"] else ""
    tokens = f"{about}{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
    return f"{usage['model']}: {tokens}, {_dollars(usage['cost_micro_usd'])}"


def _dollars(micro: int) -> str:
    whole, rest = divmod(micro, 1_000_000)
    return f"${whole}.{rest:06}".rstrip("0").ljust(len(f"${whole}.") + 2, "0")


def _say(line: str) -> None:
    click.echo(f"> {line}")


def _call(method: str, url: str, body: Any = None, token: str | None = None) -> dict[str, Any]:
    with _open(method, url, body, token, {}) as answer:
        said: dict[str, Any] = json.load(answer)
        return said


def _events(url: str, body: Any, token: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with _open("POST", url, body, token, {"Accept": "text/event-stream"}) as answer:
        name = ""
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])


def _open(method: str, url: str, body: Any, token: str | None, headers: dict[str, str]) -> Any:
    headers = {"Content-Type": "application/json", **headers}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - our own server
    try:
        # Straight to this machine, whatever proxy the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=_ANSWER_SECONDS)
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        raise click.ClickException(f"{method} {url} was answered {error.code}: {said[:500]}") from None


def _free_port() -> int:
    for port in (int(os.environ.get("PORT") or 8080), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
            return free
    raise click.ClickException("No port is free on 127.0.0.1.")
