"""The turns themselves, and the comparison of the two books."""

from __future__ import annotations

import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from firelaunch import Tool
from firelaunch.chats.place import ChatPlace
from firelaunch.errors import StoreError
from firelaunch.identity import Caller
from firelaunch.llm.breaker import Breaker
from firelaunch.llm.types import Chunk, Message
from firelaunch.metering.call_records import calls_of_request
from firelaunch.metering.reservations import Day
from firelaunch.metering.sum_repair import recount
from firelaunch.metering.sum_reports import SumReader, dearest_users, hours_of_day
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Update
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, events, sign_in, write_app
from firelaunch.testing.documents import lines_of, pdf
from firelaunch.testing.models import Action, Fault, Reply
from firelaunch.testing.recordings import wav
from firelaunch.turns.send import request_id_of
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of

from .books import Attempt, Books
from .chaos import ChaosStore, Fate, Killed
from .claude_books import ClaudeBooks

__all__ = ["Report", "fuzz"]

_USERS = ("ada", "bob", "eve", "zoe")
_PICTURE = "data:image/png;base64," + b64encode(bytes.fromhex("89504e470d0a1a0a")).decode()
_REPORT = "data:application/pdf;base64," + b64encode(pdf([lines_of("A page of a report.")] * 3)).decode()
_RECORDING = "data:audio/wav;base64," + b64encode(wav(2.5)).decode()
_TABLE = "data:text/csv;base64," + b64encode(b"city,rain\nOslo,2\n").decode()
_FILES = {"image": _PICTURE, "pdf": _REPORT, "audio": _RECORDING, "text": _TABLE}
_WITH_FILES = """
attachments = ["image", "pdf", "audio"]
chat = "gpt-audio"
cheap = "gpt-audio-mini"
fallback = ["gpt-audio-mini"]
"""
"""Models whose recordings have a price of their own, on a server that takes all files."""
_RICH, _POOR = '"100000"', '"0.006"'
_AT_ONCE = 32
_MOST_LEFT = 200
_DENSE = ("\U00020001\u9f98", "0123456789", "qZ8+/x9Aa==", "\U0001f9d1\U0001f3fd\u200d\U0001f4bb", "if(a[0]){b;} ")
"""Texts of many tokens: rare Han characters, digits, base64, emoji, code."""

_FAULTS: tuple[Action, ...] = (
    Fault(500), Fault(503, {"Retry-After": "0"}), Fault(429, {"retry-after-ms": "1"}), Fault(0), Fault(404),
    Fault(200, body="<html>", content_type="text/html"), Reply(cut_after=0), Reply(usage=None, cut_after=0),
)  # fmt: skip
_CLAUDE = """
[models.claude]
chat = "claude-sonnet-5-5"
cheap = "claude-haiku-5-5"
fallback = ["claude-haiku-4-5"]
effort = "low"
"""
_CLAUDES_SHARE = 4
"""One turn more of Claude's for so many of OpenAI's."""
_POOR_FOR_CLAUDE = '"0.2"'
_WORDS = ("Hello", " from", " th\u00e9", " m\u00f8del", ", \U0001f30d", " and so on.")


@dataclass
class Report:
    """The outcome of a run. Money in micro-dollars.

    ``in_groups`` are turns in chats of groups; during ``removed_meanwhile`` of them their writer was removed, or erased
    (``erased_meanwhile``), for which the group pays.

    ``difference`` is between what was settled and what was owed: what the server charged, or a bound where it did not
    say. ``beyond`` is what those bounds were above what it charged. ``killed`` are turns whose process died before it
    could settle, ``killed_charged`` those of them that the provider had charged for, and ``lost`` what it had: nobody
    is billed for that. Each of them has its reservation reported as expired, which is no less. ``sums_difference`` is
    between the app's sums and the books, by model and by user, before anything is repaired; ``repaired_hours`` are
    those whose sums a recount of the records changed.
    """

    turns: int = 0
    difference_micro_usd: int = 0
    overruns: int = 0
    unsettled: int = 0
    charged_micro_usd: int = 0
    settled_micro_usd: int = 0
    beyond_micro_usd: int = 0
    killed: int = 0
    killed_charged: int = 0
    lost_micro_usd: int = 0
    expired_micro_usd: int = 0
    calls: int = 0
    refused_for_budget: int = 0
    left_at_the_first_word: int = 0
    in_groups: int = 0
    removed_meanwhile: int = 0
    erased_meanwhile: int = 0
    sums_difference_micro_usd: int = 0
    repaired_hours: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing leaked."""
        wrong = self.difference_micro_usd or self.overruns or self.unsettled or self.examples
        wrong = wrong or self.sums_difference_micro_usd or self.repaired_hours
        return not wrong and self.lost_micro_usd <= self.expired_micro_usd

    def with_(self, other: Report) -> Report:
        """Return the sum of two reports; a difference of one never makes up for one of the other."""
        difference = abs(self.difference_micro_usd) + abs(other.difference_micro_usd)
        sums = {name: getattr(self, name) + getattr(other, name) for name in asdict(self)}
        return Report(**{**sums, "difference_micro_usd": difference})

    def as_json(self) -> dict[str, Any]:
        """For build/metering.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One simulated turn."""

    number: int
    user: str
    streamed: bool
    script: list[Action]
    fate: Fate | None
    commit: int
    dies_after: int | None
    leaves_after: int | None
    stops: bool
    repeated: str
    tools: bool
    classifies: bool

    @property
    def key(self) -> str:
        return f"turn-{self.number}"

    @property
    def text(self) -> str:
        return (
            f"{self.key} says \u00e6\u00f8\u00e5"
            + " and then some" * (self.number % 7)
            + (" classify" if self.classifies else "")
            + (" tools" if self.tools else "")
        )


def _plan(number: int, seed: int) -> _Plan:
    chance = random.Random(f"{seed}-{number}")  # noqa: S311 - it keeps no secret
    streamed = chance.random() < 0.75
    script = [chance.choice(_FAULTS) for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3)))]
    used = (chance.randrange(1, 900), 0, chance.randrange(1, 90))
    usage = None if chance.random() < 0.2 else (used[0], chance.randrange(used[0] + 1), used[2])
    tools = chance.random() < 0.15
    script += [Reply((), usage, calls=[("note", '{"text": "\u00e6"}')])] * (chance.randrange(1, 3) if tools else 0)
    classifies = chance.random() < 0.2
    script = [*script, Reply(("travel",), usage)] if classifies and not tools else script
    end: dict[str, Any] = {}
    leaves_after, stops, fate, dies_after = None, False, None, None
    at = chance.randrange(len(_WORDS))
    kind = chance.choice(
        ("whole",) * 4 + ("cut", "error", "refusal", "length", "leave", "stop", "die", "store", "store")
    )
    if kind in {"cut", "error"} and streamed:
        end = {f"{kind}_after": at}
    elif kind in {"refusal", "length"}:
        end = {"refusal": kind == "refusal", "finish": "length" if kind == "length" else "stop"}
    elif kind == "leave" and streamed:
        end, leaves_after = {"hang_after": at + 1}, at + 1
    elif kind == "stop" and streamed and chance.random() < 0.3:  # each waits for a checkpoint
        end, stops, leaves_after = {"hang_after": at}, True, at
    elif kind == "die":
        dies_after = at
    elif kind == "store":
        fate = chance.choice(("refused", "unheard", "killed before", "killed after"))
    script.append(Reply(_WORDS, usage, **end))
    # Who leaves while the same message is sent once more leaves the one or the other, and nobody could say which.
    repeated = chance.choice(("no", "no", "no", "after", "no" if leaves_after or stops else "meanwhile"))
    return _Plan(
        number, chance.choice(_USERS), streamed, script, fate, chance.randrange(1, 4), dies_after, leaves_after, stops,
        repeated, tools, classifies and not tools,
    )  # fmt: skip


class _Clock:
    """Noon, and then as time passes; ``ahead`` moves it on."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._noon = self._began.replace(hour=8, minute=0, second=0, microsecond=0)
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return self._noon + (datetime.now(UTC) - self._began) + self.ahead


def _breaker() -> Breaker:
    # So much fails here that models would rest most of the time.
    return Breaker(time.monotonic, threshold=8, rest=0.02)


class _World:
    """The app, its database, and the model's server."""

    def __init__(self, folder: Path, books: Books | ClaudeBooks, daily: str, models: str = "", payer: str = "") -> None:
        text = SETTINGS.replace('"0.50"', daily).replace("requests_per_minute = 1000", "requests_per_minute = 1000000")
        text = text.replace(
            "[limits]", "[limits]\non_disconnect = 'stop'\ncheckpoint_seconds = 0.2\nfirst_token_seconds = 600"
        )
        if payer:
            text += f'groups = 1000\n\n[groups]\nchats_paid_by = "{payer}"\nchats_on_erase = "delete"\n'
        if models:
            before, _, after = text.partition("[models.openai]\n")
            text = f"{before}[models.openai]{models}\n[prompts]{after.partition('[prompts]')[2]}"
        if isinstance(books, ClaudeBooks):
            text, environ = text + _CLAUDE, {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": books.url}
        else:
            environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": books.base_url}
        self.books = books
        self.clock = _Clock()
        self.sqlite = SQLiteStore(folder / "data.sqlite3")
        self.store = ChaosStore(self.sqlite)
        settings = Settings.load(write_app(folder, text), environ)
        services = build(settings, self.clock, store=self.store)
        # Pauses between tries would be most of the time; what may end them still does.
        gateway = replace(services.gateway, pause=lambda patience, _: patience.check(), breaker=_breaker())
        self.services = replace(services, gateway=gateway)
        self.dies = threading.local()
        self.app = App("fuzz")
        init_app(self.app, self.services, self._workflow)

    def _workflow(self, turn: Turn) -> Iterator[Chunk]:
        def note(text: str) -> str:
            """Take a note."""
            return text * 2

        asked: list[Message] = [*turn.history[-2:], {"role": "user", "content": turn.text}]
        if "classify" in turn.text:
            turn.llm.complete(asked, model="cheap", purpose="classify")

        def pay(amount: int) -> str:
            """Pay an amount."""
            return f"paid {amount}"

        left = getattr(self.dies, "after", None)
        approved = [Tool(pay, approve=True)] if turn.text.endswith("approve") else []
        tools = [note] if turn.text.endswith("tools") else approved
        for number, chunk in enumerate(turn.llm.stream(asked, tools=tools)):
            if left is not None and number >= left:
                self.store.die()
            yield chunk

    def day(self, uid: str) -> Day:
        return Day.of(self.sqlite.get(Scope("demo", uid).usage(self.services.metering.today())))


def fuzz(folder: Path, turns: int, seed: int = 0, tick: Callable[[int, int], None] = lambda *_: None) -> Report:
    """Run ``turns`` turns, and then rounds of 32 at once of one user; ``tick`` is told how far it is.

    Args:
        seed: what the chances are made of; the same turns come of the same one, if not in the same order.
    """
    report = Report(turns=turns)
    with Books() as books:
        _many(_World(folder / "many", books, _RICH), turns, seed, report, tick)
        rounds = max(2, turns // 500)
        _crowds(_World(folder / "crowd", books, _POOR), rounds, report)
        _leavers(_World(folder / "leavers", books, _POOR), rounds, report)
        _continued(_World(folder / "continued", books, _RICH), max(8, turns // 20), seed, report)
        _files(_World(folder / "files", books, _RICH, _WITH_FILES), max(8, turns // 20), seed, report)
        for payer in ("writer", "group"):
            world = _World(folder / f"groups-{payer}", books, _RICH, payer=payer)
            _grouped(world, max(8, turns // 20), seed, payer, report)
            _group_crowds(_World(folder / f"group-crowd-{payer}", books, _POOR, payer=payer), rounds, payer, report)
    with ClaudeBooks() as books_of_claude:
        more = Report(turns=turns // _CLAUDES_SHARE)
        _many(_World(folder / "claude", books_of_claude, _RICH), more.turns, seed + 1, more, tick)
        _crowds(_World(folder / "claude-crowd", books_of_claude, _POOR_FOR_CLAUDE), 2, more)
    return report.with_(more)


def _many(world: _World, turns: int, seed: int, report: Report, tick: Callable[[int, int], None]) -> None:
    users = {uid: sign_in(world.app, uid) for uid in _USERS}
    chats = {uid: [users[uid].new_chat() for _ in range(4)] for uid in _USERS}
    done: list[Attempt] = []
    ledger: dict[tuple[str, str], int] = {}
    lock = threading.Lock()

    def one(number: int) -> None:
        plan = _plan(number, seed)
        user = User(world.app.test_client(), users[plan.user].token)
        attempt = _Simulated(world, user, chats[plan.user][number % 4], plan).run()
        with lock:
            done.append(attempt)
            if _enter(world, plan, attempt, report):
                for key, owed in ((("user", plan.user), attempt.owed), *_by_model(attempt)):
                    ledger[key] = ledger.get(key, 0) + owed
            tick(len(done), turns)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(turns)))
    world.clock.ahead = timedelta(seconds=world.services.metering.reservation_seconds + 1)
    _compare_sums(world, ledger, report)
    days = [world.day(uid) for uid in _USERS]
    report.settled_micro_usd = sum(day.number("cost_micro_usd") for day in days)
    owed = report.charged_micro_usd + report.beyond_micro_usd
    report.difference_micro_usd = owed - report.settled_micro_usd
    for day in days:
        report.unsettled += len(day.reservations(world.clock(), expired=False))
        gone = day.reservations(world.clock(), expired=True)
        report.expired_micro_usd += day.number("expired_micro_usd") + sum(gone.values())
    world.sqlite.close()


def _by_model(attempt: Attempt) -> list[tuple[tuple[str, str], int]]:
    return [(("model", model), owed) for model, owed in attempt.models.items()]


def _compare_sums(world: _World, ledger: dict[tuple[str, str], int], report: Report) -> None:
    """Compare the app's sums with what the turns that settled owed."""
    app, now, day = Scope("demo"), world.clock(), world.services.metering.today()
    sums = SumReader(world.sqlite, app, now).report(now - timedelta(days=1), now)
    summed = {("model", row["name"]): row["cost_micro_usd"] for row in sums.by("model")}
    users = dearest_users(world.sqlite, app, day, 100)
    summed |= {("user", user["uid"]): user["cost_micro_usd"] for user in users}
    differences = {key: summed.get(key, 0) - ledger.get(key, 0) for key in {*summed, *ledger}}
    report.sums_difference_micro_usd = sum(map(abs, differences.values()))
    if report.sums_difference_micro_usd:
        report.examples = [*report.examples, f"sums beyond the books: {differences}"][:5]
    for part in ("prompt", "plan", "purpose", "end"):
        total = sum(row["cost_micro_usd"] for row in sums.by(part))
        report.sums_difference_micro_usd += abs(total - sums.totals()["cost_micro_usd"])
    report.repaired_hours = len(recount(world.sqlite, app, hours_of_day(day)))


def _enter(world: _World, plan: _Plan, attempt: Attempt, report: Report) -> bool:
    """Compare the two books on one turn, and return whether it settled."""
    record = world.sqlite.get(Scope("demo", plan.user).request(_request_id(plan)))
    settled = world.store.settled.get(_request_id(plan), 0)
    report.calls += attempt.calls
    app = Scope("demo")
    recorded = sum(call["cost_micro_usd"] for call in calls_of_request(world.sqlite, app, _request_id(plan)))
    if recorded != settled:
        report.examples = [*report.examples, f"{plan}: {recorded} in the records of its calls, settled {settled}"][:5]
    if record is not None and record.data["state"] == "reserved":
        lost = attempt.owed - settled
        report.killed += 1
        report.killed_charged += lost > 0
        report.lost_micro_usd += lost
        report.charged_micro_usd += settled
        held = world.day(plan.user).reservations(world.clock(), expired=False).get(_request_id(plan), 0)
        if lost > held:
            report.examples = [*report.examples, f"{plan}: {lost} lost, and {held} held"][:5]
        return False
    report.charged_micro_usd += attempt.charged
    report.beyond_micro_usd += attempt.owed - attempt.charged
    if settled != attempt.owed or settled < attempt.charged:
        told = f"{plan}: settled {settled}, owed {attempt.owed}, charged {attempt.charged}"
        report.examples = [*report.examples, told][:5]
    return True


def _request_id(plan: _Plan) -> str:
    return request_id_of(ChatPlace.own(Caller("demo", plan.user, "member")), plan.key)


class _Simulated:
    """One turn, as a client and its bad luck have it."""

    def __init__(self, world: _World, user: User, chat: str, plan: _Plan) -> None:
        self._world, self._user, self._chat, self._plan = world, user, chat, plan

    def run(self) -> Attempt:
        world, plan = self._world, self._plan
        attempt = world.books.expect(plan.key, list(plan.script), self._stop if plan.stops else lambda: None)
        world.store.fate(plan.fate, plan.commit)
        world.dies.after = plan.dies_after
        other = threading.Thread(target=self._send_again) if plan.repeated == "meanwhile" else None
        if other is not None:
            other.start()
        try:
            self._send()
        except Killed:
            pass
        finally:
            world.store.fate(None, 0)
            world.dies.after = None
        if plan.repeated == "after":
            self._send_again()
        if other is not None:
            other.join()
        return attempt

    def _send(self) -> None:
        plan = self._plan
        if not plan.streamed:
            self._user.send(self._chat, plan.text, Idempotency_Key=plan.key)
            return
        response = self._user.stream(self._chat, plan.text, Idempotency_Key=plan.key)
        if response.status_code != 200:
            return
        said = 0
        enough = None if plan.leaves_after is None else len("".join(_WORDS[: plan.leaves_after]))
        found = events(response)
        for name, data in found:
            said += len(data["text"].lstrip("\n")) if name == "delta" else 0
            # Only then: whoever leaves earlier has heard less than the provider has said.
            if enough and said >= enough and name == "delta":
                if not plan.stops:
                    break
                self._stop()
        response.close()

    def _stop(self) -> None:
        """As another instance would ask for it."""
        path = Scope("demo", self._plan.user).request(_request_id(self._plan))
        while True:
            try:
                self._world.sqlite.commit([Update(path, {"stop": True})])
            except StoreError:  # the database is busy, and the model's server is the one that asks
                continue
            return

    def _send_again(self) -> None:
        world, plan = self._world, self._plan
        world.store.fate(None, 0)
        User(world.app.test_client(), self._user.token).send(self._chat, plan.text, Idempotency_Key=plan.key)


def _crowds(world: _World, rounds: int, report: Report) -> None:
    """Rounds of 32 requests of one user at once, each of a new user, with a budget that covers some of them."""
    for number in range(rounds):
        uid = f"user-{number}"
        user = sign_in(world.app, uid)
        chat = user.new_chat()
        reply = Reply(usage=(20, 0, 90), pace=0.002)
        attempts = [world.books.expect(f"crowd-{number}-{at}", [reply]) for at in range(_AT_ONCE)]
        refused: list[int] = []

        def send(
            at: int, number: int = number, user: User = user, chat: str = chat, refused: list[int] = refused
        ) -> None:
            answer = User(world.app.test_client(), user.token).send(chat, f"crowd-{number}-{at} hello")
            refused.append(answer.status_code == 429)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(send, range(_AT_ONCE)))
        day, charged = world.day(uid), sum(attempt.charged for attempt in attempts)
        report.turns += _AT_ONCE
        report.calls += sum(attempt.calls for attempt in attempts)
        report.refused_for_budget += sum(refused)
        report.unsettled += len(day.reservations(world.clock(), expired=False))
        report.difference_micro_usd += abs(charged - day.number("cost_micro_usd"))
        report.overruns += charged > world.services.metering.plans["free"].daily_usd
    world.sqlite.close()


def _continued(world: _World, rounds: int, seed: int, report: Report) -> None:
    """Answers that are cut and go on, that wait for the user's approval, and to messages with images.

    The database fails and acknowledgements get lost, and decisions and requests are sent twice.
    """
    for number in range(rounds):
        chance = random.Random(f"{seed}-continued-{number}")  # noqa: S311 - it keeps no secret
        user, key = sign_in(world.app, f"going-{number}"), f"going-{number}"
        chat, kind = user.new_chat(), chance.choice(("cut", "approve", "refuse", "image"))
        usage = None if chance.random() < 0.3 else (chance.randrange(1, 900), 0, chance.randrange(1, 90))
        faults: list[Action] = [Fault(429)] * chance.randrange(2)
        ends: dict[str, dict[str, Any]] = {"cut": {"finish": "length"}, "image": {}}
        first = Reply(_WORDS, usage, **ends.get(kind, {"calls": [("pay", '{"amount": 3}')]}))
        attempt = world.books.expect(key, [*faults, first])
        path = f"/v1/chats/{chat}/messages"
        files = {"files": [{"url": _PICTURE}]} if kind == "image" else {}
        answer = _until(lambda path=path, key=key, files=files: user.post(path, {"text": f"{key} approve", **files}))  # noqa: B023
        told: dict[str, Any] = {"continues": answer["message"]["id"]}
        if kind in {"approve", "refuse"}:
            waiting = [use["id"] for use in answer["message"]["tools"] if use["approve_until"]]
            told["approvals"] = [{"id": call, "approved": kind == "approve"} for call in waiting]
        attempt.script += [*faults, Reply(_WORDS, usage)]
        if kind != "image":
            world.store.fate(chance.choice((None, "refused", "unheard")), chance.randrange(1, 5))
            headers = {"Idempotency_Key": "go-on"}
            for _ in range(chance.randrange(1, 3)):
                _until(lambda path=path, told=told, headers=headers: user.post(path, told, **headers))  # noqa: B023
            world.store.fate(None, 0)
        day = world.day(key)
        report.turns += 2
        report.calls += attempt.calls
        report.difference_micro_usd += abs(attempt.owed - day.number("cost_micro_usd"))
        report.overruns += attempt.charged > day.number("cost_micro_usd")
    # A request whose admission was not acknowledged holds its reservation until that expires.
    world.clock.ahead = timedelta(seconds=world.services.metering.reservation_seconds + 1)
    for number in range(rounds):
        day = world.day(f"going-{number}")
        report.unsettled += len(day.reservations(world.clock(), expired=False))
        gone = day.reservations(world.clock(), expired=True)
        report.expired_micro_usd += day.number("expired_micro_usd") + sum(gone.values())
    world.sqlite.close()


def _files(world: _World, rounds: int, seed: int, report: Report) -> None:
    """Chats with files of each kind, which the next message shows again; some calls fail, some report no usage."""
    for number in range(rounds):
        chance = random.Random(f"{seed}-files-{number}")  # noqa: S311 - it keeps no secret
        key = f"files-{number}"
        user = sign_in(world.app, key)
        chat, attempts = user.new_chat(), []
        sent = [
            {"url": _FILES[kind], "filename": kind} for kind in chance.sample(sorted(_FILES), chance.randrange(1, 4))
        ]
        for turn, files in enumerate((sent, [])):
            asked = chance.randrange(1, 5_000)
            usage = None if chance.random() < 0.3 else (asked, chance.randrange(asked), chance.randrange(1, 90))
            faults: list[Action] = [chance.choice(_FAULTS[:4])] * chance.randrange(2)
            reply = Reply(_WORDS, usage, audio_tokens=chance.randrange(asked))
            attempts.append(world.books.expect(f"{key}-{turn}", [*faults, reply]))
            body = {"text": f"{key}-{turn} says so", "files": files}
            assert user.post(f"/v1/chats/{chat}/messages", body).status_code == 200
        day = world.day(key)
        report.turns += 2
        report.calls += sum(attempt.calls for attempt in attempts)
        report.unsettled += len(day.reservations(world.clock(), expired=False))
        owed, charged = (sum(getattr(each, name) for each in attempts) for name in ("owed", "charged"))
        report.difference_micro_usd += abs(owed - day.number("cost_micro_usd"))
        report.overruns += charged > day.number("cost_micro_usd")
    world.sqlite.close()


def _new_group(world: _World, owner: User, uids: Sequence[str]) -> tuple[str, dict[str, User]]:
    """Return a new group, and its editors, who have joined it by an invitation."""
    group: str = owner.post("/v1/groups", {"name": "Fuzz"}).get_json()["id"]
    invite = owner.post(f"/v1/groups/{group}/invites", {"role": "editor", "uses": len(uids)}).get_json()["invite"]
    users = {uid: sign_in(world.app, uid) for uid in uids}
    for user in users.values():
        assert user.post(f"/v1/groups/{group}/join", {"invite": invite}).status_code == 200
    return group, users


def _grouped(world: _World, rounds: int, seed: int, payer: str, report: Report) -> None:
    """Chats of groups in which several write at once, while one of them is removed, or erased, during an answer.

    Models fail, some report no usage, and the database fails when some of the turns settle.
    """
    everybody: list[str] = []
    for number in range(rounds):
        chance = random.Random(f"{seed}-{payer}-{number}")  # noqa: S311 - it keeps no secret
        owner = sign_in(world.app, f"owner-{number}")
        group, users = _new_group(world, owner, [f"{name}-{number}" for name in ("ann", "ben", "cem")])
        chat = owner.post("/v1/chats", {"group": group}).get_json()["id"]
        gone, fate = f"ann-{number}", chance.choice((None, "refused", "unheard"))
        # What an erased user's own plan has paid is erased with them, so there would be nothing to compare.
        erased = payer == "group" and chance.random() < 0.5
        attempts: dict[str, Attempt] = {}
        removing: list[threading.Thread] = []

        def remove(
            owner: User = owner,
            group: str = group,
            gone: str = gone,
            removing: list[threading.Thread] = removing,
            *,
            erased: bool = erased,
        ) -> None:
            # The model's server asks for it once it has fallen silent.
            def remove_it() -> None:
                if erased:
                    erasure_of(world.services).run(gone)
                else:
                    User(world.app.test_client(), owner.token).delete(f"/v1/groups/{group}/members/{gone}")

            removing.append(threading.Thread(target=remove_it))
            removing[-1].start()

        for uid in users:
            usage = None if chance.random() < 0.3 else (chance.randrange(1, 900), 0, chance.randrange(1, 90))
            faults: list[Action] = [chance.choice(_FAULTS[:4])] * chance.randrange(2)
            last = Reply(_WORDS, usage, hang_after=0 if uid == gone else None)
            attempts[uid] = world.books.expect(f"{payer}-{uid}", [*faults, last], remove if uid == gone else _nothing)

        def one(
            uid: str,
            users: dict[str, User] = users,
            chat: str = chat,
            group: str = group,
            fate: Fate | None = fate,
        ) -> None:
            user = User(world.app.test_client(), users[uid].token)
            body = {"text": f"{payer}-{uid} says so", "group": group}
            world.store.fate(fate, 2)
            response = user.post(f"/v1/chats/{chat}/messages", body, Accept="text/event-stream", Idempotency_Key=uid)
            list(events(response))
            world.store.fate(None, 0)

        with ThreadPoolExecutor(len(users)) as pool:
            list(pool.map(one, users))
        for thread in removing:
            thread.join()
        owed = {uid: attempt.owed for uid, attempt in attempts.items()}
        payers = {f"group~{group}": sum(owed.values())} if payer == "group" else owed
        everybody += payers
        for uid, expected in payers.items():
            report.difference_micro_usd += abs(expected - world.day(uid).number("cost_micro_usd"))
        others = [*users, f"owner-{number}"] if payer == "group" else [f"group~{group}", f"owner-{number}"]
        report.difference_micro_usd += sum(world.day(uid).number("cost_micro_usd") for uid in others)
        report.turns += len(users)
        report.in_groups += len(users)
        report.erased_meanwhile += erased and bool(removing)
        report.removed_meanwhile += world.sqlite.get(Scope("demo").of_group(group).group_member(gone)) is None
        report.calls += sum(attempt.calls for attempt in attempts.values())
    # As in _continued: an admission may not have been acknowledged, and then nobody goes on with it.
    world.clock.ahead = timedelta(seconds=world.services.metering.reservation_seconds + 1)
    report.unsettled += sum(len(world.day(uid).reservations(world.clock(), expired=False)) for uid in everybody)
    world.sqlite.close()


def _nothing() -> None:
    pass


def _group_crowds(world: _World, rounds: int, payer: str, report: Report) -> None:
    """Rounds of 32 requests of the members of a group at once, with a budget that covers some of them."""
    for number in range(rounds):
        owner = sign_in(world.app, f"owner-{number}")
        group, users = _new_group(world, owner, [f"member-{number}-{at}" for at in range(4)])
        chat = owner.post("/v1/chats", {"group": group}).get_json()["id"]
        members = list(users.values())
        reply = Reply(usage=(20, 0, 90), pace=0.002)
        attempts = [world.books.expect(f"{payer}-crowd-{number}-{at}", [reply]) for at in range(_AT_ONCE)]

        def send(
            at: int, number: int = number, members: list[User] = members, chat: str = chat, group: str = group
        ) -> bool:
            user = User(world.app.test_client(), members[at % len(members)].token)
            body = {"text": f"{payer}-crowd-{number}-{at} hello", "group": group}
            return user.post(f"/v1/chats/{chat}/messages", body).status_code == 429

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            report.refused_for_budget += sum(pool.map(send, range(_AT_ONCE)))
        days = [world.day(uid) for uid in ([f"group~{group}"] if payer == "group" else users)]
        report.turns += _AT_ONCE
        report.in_groups += _AT_ONCE
        report.calls += sum(attempt.calls for attempt in attempts)
        spent = [day.number("cost_micro_usd") for day in days]
        report.unsettled += sum(len(day.reservations(world.clock(), expired=False)) for day in days)
        report.difference_micro_usd += abs(sum(attempt.owed for attempt in attempts) - sum(spent))
        report.overruns += sum(cost > world.services.metering.plans["free"].daily_usd for cost in spent)
    world.sqlite.close()


def _until(send: Callable[[], Any]) -> Any:
    """Send a request again while the database or the model fails, as a client would, and return its answer."""
    for _ in range(8):
        answer = send()
        if answer.status_code == 200:
            break
    return answer.get_json()


def _leavers(world: _World, rounds: int, report: Report) -> None:
    """Rounds of a user who leaves at each first word of the answers to dense texts, until the budget is used up."""
    for number in range(rounds):
        uid = f"leaver-{number}"
        user = sign_in(world.app, uid)
        chat = user.new_chat()
        attempts = []
        for at in range(_MOST_LEFT):
            key = f"left-{number}-{at}"
            attempts.append(world.books.expect(key, [Reply(_WORDS, hang_after=1)]))
            response = user.stream(chat, f"{key} {_DENSE[at % len(_DENSE)] * 40}")
            if response.status_code == 429:
                report.refused_for_budget += 1
                break
            for name, _ in events(response):
                if name == "delta":
                    break
            response.close()
            report.left_at_the_first_word += 1
        day, charged = world.day(uid), sum(attempt.charged for attempt in attempts)
        report.turns += len(attempts)
        report.calls += sum(attempt.calls for attempt in attempts)
        report.unsettled += len(day.reservations(world.clock(), expired=False))
        report.difference_micro_usd += abs(sum(a.owed for a in attempts) - day.number("cost_micro_usd"))
        report.overruns += charged > world.services.metering.plans["free"].daily_usd
    world.sqlite.close()
