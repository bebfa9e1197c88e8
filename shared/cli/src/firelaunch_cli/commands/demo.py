"""Implement ``firelaunch demo``: make and run an app that answers, in one command."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import click
from firelaunch.settings.sections import dollars
from firelaunch.text_file import read_text_file

from .apps import repo_root, take_env_file
from .client import Client
from .conversation import Speech, heading, note, step
from .demo_documents import QUESTIONS, show_sources, upload
from .new import bake
from .running import served
from .serve import free_port

__all__ = ["command"]

_APP = "demo"
_USER = "ada"
_RECORD = ".firelaunch-answers.json"
"""The file that the template's hook writes last."""


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the exchange rather than stay up.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on; 8080, or any other where that is taken."
)
def command(once: bool, port: int | None) -> None:
    """Make apps/demo if it does not exist, start it, upload documents, ask about them, and show the costs."""
    root = repo_root()
    folder = _demo_app(root)
    port = free_port(port)
    take_env_file(folder)
    step(f"Starting apps/{_APP} under gunicorn")
    began = time.monotonic()
    with served(folder, _APP, port) as (client, process):
        step(f"It answers on {client.url} after {time.monotonic() - began:.1f} s")
        _say_who_answers(client.get("/ready")["model"])
        messages = _exchange(client, root / "docs")
        if not once:
            _say_how_to_go_on(client.url, messages)
            _stay_up(client.url, process)


def _demo_app(root: Path) -> Path:
    """Return the demo app's folder. Make the app first if it does not exist or is not complete."""
    folder = root / "apps" / _APP
    if folder.exists() and not (folder / _RECORD).is_file():
        backup = folder.with_name(f"{_APP}-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(backup)
        step(f"apps/{_APP} is not a whole app; it is now apps/{backup.name}")
    if not folder.exists():
        step(f"Making apps/{_APP} with cookiecutter")
        answers = {"app_name": "Demo", "app_slug": _APP, "description": "Shows what firelaunch does."}
        return bake(root, answers, ask=False, next_steps=False)
    if _is_older(root, folder):
        step(f"apps/{_APP} was made from another template than the present one; remove it to have it made anew")
    return folder


def _is_older(root: Path, folder: Path) -> bool:
    made_from = json.loads(read_text_file(folder / _RECORD)).get("template_commit")
    log = ["git", "-C", str(root), "log", "-1", "--format=%H", "--", "template"]
    with contextlib.suppress(OSError):
        current = subprocess.run(log, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - fixed words
        return bool(made_from and current and made_from != current)
    return False


def _say_who_answers(model: str) -> None:
    if model == "offline":
        step("The offline model answers: no key is set. A real one:")
        note("OPENAI_API_KEY=sk-... make demo")
        note("ANTHROPIC_API_KEY=sk-ant-... make demo")
        note("OPENAI_BASE_URL=http://localhost:11434/v1 OPENAI_MODEL=llama3.2 make demo    (Ollama)")
    elif not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        step(f"{model} of Anthropic answers")
    else:
        server = os.environ.get("OPENAI_BASE_URL") or "OpenAI"
        step(f"{os.environ.get('OPENAI_MODEL') or 'A model'} of {server} answers")


def _exchange(client: Client, docs: Path) -> str:
    client.token = client.post("/dev/token", {"uid": _USER})["token"]
    step(f"Signed in as the dev user {_USER}")
    upload(client, docs)
    messages = f"/v1/chats/{client.post('/v1/chats', {})['id']}/messages"
    for question in QUESTIONS[:2]:
        heading("An answer as JSON")
        _answer_as_json(client, messages, question)
    heading("An answer as a stream")
    _answer_as_stream(client, messages, QUESTIONS[2])

    heading(f"What {_USER} has used today")
    usage = client.get("/v1/usage")
    tokens = f"{usage['requests']} requests, {usage['input_tokens']} tokens in, {usage['output_tokens']} out"
    limit = dollars(usage["limit"]["daily_micro_usd"])
    note(f"{tokens}, {dollars(usage['cost_micro_usd'])} of {limit}")
    return messages


def _answer_as_json(client: Client, messages: str, question: str) -> None:
    _ask(question)
    began = time.monotonic()
    answer = client.post(messages, {"text": question})
    speech = Speech("Model")
    speech.say(answer["message"]["text"])
    speech.end()
    show_sources(answer["message"])
    note(f"{_bill(answer['usage'])}; {_since(began)}")


def _ask(question: str) -> None:
    speech = Speech("You")
    speech.say(question)
    speech.end()


def _answer_as_stream(client: Client, messages: str, question: str) -> None:
    _ask(question)
    began, first_words = time.monotonic(), ""
    speech = Speech("Model")
    for name, data in client.stream(messages, {"text": question}):
        if name == "delta":
            first_words = first_words or f"first words after {_since(began)}"
            speech.say(data["text"])
        elif name == "done":
            speech.end()
            show_sources(data["message"])
            note(f"{_bill(data['usage'])}; {first_words}, all of it after {_since(began)}")
            return
        elif name == "error":
            speech.end()
            raise click.ClickException(f"The answer broke off: {data['error']['message']}")
    speech.end()
    raise click.ClickException("The stream ended without its last event.")


def _since(began: float) -> str:
    seconds = time.monotonic() - began
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _bill(usage: dict[str, Any]) -> str:
    about = "about " if usage["estimated"] else ""
    tokens = f"{about}{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
    return f"{usage['model']}: {tokens}, {dollars(usage['cost_micro_usd'])}"


def _say_how_to_go_on(url: str, messages: str) -> None:
    heading("Your turn")
    json_type = "-H 'Content-Type: application/json'"
    click.echo(
        f'TOKEN=$(curl -s {url}/dev/token {json_type} -d \'{{"uid": "{_USER}"}}\' | sed \'s/.*: *"//; s/".*//\')\n'
        f'curl -N {url}{messages} -H "Authorization: Bearer $TOKEN" \\\n'
        f"  {json_type} -H 'Accept: text/event-stream' -d '{{\"text\": \"Hello\"}}'\n"
    )


def _stay_up(url: str, process: subprocess.Popen[bytes]) -> None:
    step(f"The app stays up until Ctrl-C: open {url} in a browser; what it answers is in apps/{_APP}/app/workflow.py")
    with contextlib.suppress(KeyboardInterrupt):
        code = process.wait()
        raise click.ClickException(f"The app ended by itself, with status {code}.")
    click.echo("\nStopped.")
