"""Two days of an app's life, by its real code and a model server: yesterday was dear, and the page has to say why.

On the day before, users ask `chat@1` now and then. Yesterday `chat@2`, which asks a dear model, was given to all, and
one user asked it much and at length. There are failures, retries, a second feature and ratings.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from firelaunch.llm.types import Chunk, Message
from firelaunch.prompts.lock import lock
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Set
from firelaunch.testing.apps import User, run_jobs, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn

__all__ = ["CAUSE", "DEAD_JOB", "seed"]

CAUSE = {"model": "gpt-6.1-terra", "prompt": "chat@2", "user": "bob"}
"""Why yesterday was dear."""

_DEAR = '+++\nmodel = "gpt-6.1-terra"\n+++\nYou are the assistant of ${app_name}. Answer at length.\n'
_USERS = ("ada", "bob", "cleo", "dan", "eve")


def workflow(turn: Turn) -> Iterator[Chunk]:
    """Answers, and for some questions sums up first, which is another feature."""
    system = turn.prompt("chat", app_name=turn.app.name)
    messages: list[Message] = [{"role": "system", "content": system}, *turn.history]
    if "sum" in turn.text:
        turn.llm.complete([{"role": "user", "content": "Sum up."}], model="cheap", purpose="summary")
    yield from turn.llm.stream([*messages, {"role": "user", "content": turn.passages + turn.text}])


def seed(folder: Path, model: ModelServer, now: datetime | None = None, *, each_hour: int = 2) -> dict[str, Any]:
    """Let the app in ``folder`` live through two days and the hours of today, and return what happened.

    Args:
        each_hour: how many requests an ordinary hour has.
    """
    now = now or datetime.now(UTC)
    settings = folder / "firelaunch.toml"
    prompts = folder / "app" / "prompts"
    (prompts / "chat@2.md").write_text(_DEAR)
    lock(prompts)
    usual = _with_prompt(settings.read_text(), 1)
    yesterday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    days = [(yesterday - timedelta(days=1), 24, 1), (yesterday, 24, 2), (yesterday + timedelta(days=1), now.hour, 1)]
    lived = {}
    for start, hours, version in days:
        settings.write_text(_with_prompt(usual, version))
        lived[start.date().isoformat()] = _live(folder, model, start, hours, each_hour, dear=version == 2)
    settings.write_text(usual)
    return lived


def _with_prompt(settings: str, version: int) -> str:
    for known in (1, 2):
        settings = settings.replace(f"[prompts]\nchat = {known}", f"[prompts]\nchat = {version}")
    return (
        settings.replace('"gpt-6.1-terra"', '"gpt-5.6-luna"', 1) if 'chat = "gpt-6.1-terra"' in settings else settings
    )


def _live(folder: Path, model: ModelServer, start: datetime, hours: int, each_hour: int, *, dear: bool) -> int:
    moment = [start]
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    services = build(Settings.load(folder / "firelaunch.toml", environ), clock=lambda: moment[0])
    app = App("seed")
    init_app(app, services, workflow)
    users = {uid: sign_in(app, uid) for uid in _USERS}
    dice = random.Random(4)  # noqa: S311 - the same story on each day of the year, and no secret
    asked = 0
    for hour in range(hours):
        many = each_hour * (3 if 8 <= hour <= 18 else 1)
        for number in range(many):
            moment[0] = start + timedelta(hours=hour, minutes=59 * number / many)
            asked += _ask(users[dice.choice(_USERS)], model, dice, "Tell me, please", long=False)
        if dear and 10 <= hour <= 14:
            for _ in range(2 * each_hour):
                asked += _ask(users["bob"], model, dice, "Tell me everything", long=True)
    if dear:
        _aside(app, users["ada"], moment[0])
    services.store.close()
    return asked


def _aside(app: App, ada: User, at: datetime) -> None:
    """A document that a question cites, a job that died, and two members."""
    root = sign_in(app, "root", "admin")
    root.upload("lamps.md", b"# Lamps\n\nYou may return a lamp within 30 days.", library="true")
    run_jobs(app)
    services: Services = app.extensions["firelaunch"].services
    scope = services.store.scope
    services.store.commit(
        [
            *(
                Set(scope.of(uid).member(), {"role": role, "joined": at, "updated_at": at})
                for uid, role in (("bob", "member"), ("root", "admin"))
            ),
            Create(scope.job(DEAD_JOB), {**_DEAD, "created_at": at, "finished_at": at, "due_at": at}),
        ]
    )


DEAD_JOB = "j" + "0" * 31 + "1"
_DEAD = {
    "kind": "erase", "uid": None, "state": "dead", "payload": '{"uid": "nobody"}', "attempts": 8, "max_attempts": 8,
    "seconds": 60.0, "fence": 8, "error": {"code": "internal", "message": "The database was away."},
}  # fmt: skip


def _ask(user: User, model: ModelServer, dice: random.Random, text: str, *, long: bool) -> int:
    chance = dice.random()
    size = 20 if long else 1
    reply = Reply(usage=(900 * size, 0, 150 * size), pace=0.0005, words=["Some", " answer", "."])
    model.script[:] = []
    if chance < 0.05 and not long:
        model.script += [Fault(400)]
    elif chance < 0.15:
        model.script += [Fault(503), reply, reply]
    model.default = reply
    chat = user.new_chat()
    answer = user.send(chat, f"{text} {'in sum' if chance > 0.8 else ''} {dice.random()}")
    if answer.status_code == 200 and dice.random() < 0.2:
        message = answer.get_json()["message"]["id"]
        value: dict[str, Any] = (
            {"value": "up"} if not long else {"value": "down", "reason": "incorrect", "text": "Too long."}
        )
        user.put(f"/v1/chats/{chat}/messages/{message}/rating", value)
    return 1
