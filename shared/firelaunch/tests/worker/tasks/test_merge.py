"""The data of a guest becomes an account's, once, whatever breaks off and whoever else is at it."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from shutil import copytree
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.llm.types import Chunk
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.records.user_ids import UserId
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.base import Create, Delete, DocumentStore, Set, Update
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.emulator import Emulator
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

APP, GUEST, ADA, BOB = Scope("demo"), Scope("demo", "guest-uid"), Scope("demo", "ada"), Scope("demo", "bob")
GUESTS = """
[plans.guest]
requests_per_minute = 1000
daily_usd = "0.05"
documents = 3

[budget]
guests_daily_usd = "5"
"""
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()


class Meal(Record):
    name: str


class Profile(Record):
    who: UserId
    name: str


meals = Collection("meals", Meal)
profiles = Collection("profiles", Profile, owner="app", on_erase="delete")
DECLARED = Declared((), (meals, profiles), (), (), ())


def answer(turn: Turn) -> Iterator[Chunk]:
    turn.llm.complete([{"role": "user", "content": "Think"}])
    yield Chunk(f"So: {turn.text}")


@contextmanager
def made(folder: Path, store: DocumentStore | None = None) -> Iterator[Site]:
    with embedded_site(
        folder, store, started=False, workflow=answer, settings=JOB_SETTINGS + GUESTS, declared=DECLARED
    ) as site:
        yield site


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store: DocumentStore | None = None
    if request.param == "firestore":
        store = request.getfixturevalue("emulator_store")
    with made(tmp_path, store) as one:
        yield one


def run_due(site: Site) -> None:
    for job in site.services.jobs.due(50):
        site.runner.run(job)


def live(site: Site, user: Scope, word: str, *, guest: bool = False, chat: str = "") -> User:
    """A user who did something of everything."""
    one, services = sign_in(site.app, user.uid or "", guest=guest), site.services
    message = {"id": f"{word}-1", "role": "user", "parts": [{"type": "text", "text": f"{word} in a picture"}]}
    message["parts"].append({"type": "file", "mediaType": "image/png", "url": PNG, "filename": "a.png"})  # type: ignore[attr-defined]
    sent = one.post("/v1/chat", {"id": chat or f"chat-of-{word}", "messages": [message]})
    assert b"finish" in sent.data
    assert one.send(one.new_chat(), f"{word} in a message").status_code == 200
    assert one.upload(f"{word}.txt", f"The {word} lives near the river. ".encode() * 20).status_code == 202
    services.files.within(user).put("avatar", f"{word} in a file".encode(), "text/plain")
    services.data.within(user)(meals).add(Meal(name=f"{word} soup"), id="today")
    services.data.within(user)(meals).add(Meal(name=f"{word} cake"), id=f"z-{word}")
    services.data.within(APP)(profiles).add(Profile(who=user.uid or "", name=word), id=user.uid)
    spent = {"cost_micro_usd": 100 + len(word), "models": {"m": {"cost_micro_usd": len(word)}}}
    services.store.commit([Set(user.memory(), {"notes": [f"{word} to remember"]})])
    services.store.commit([Set(user.usage(services.metering.today()), spent, merge=True)])
    run_due(site)
    return one


def merge(site: Site, account: User, guest: User) -> Any:
    return account.post("/v1/me/merge", {"guest_token": guest.token})


def merged(site: Site, account: User, guest: User) -> dict[str, Any]:
    started = merge(site, account, guest)
    assert started.status_code == 202, started.get_json()
    return finished(site, started.get_json()["id"])


def finished(site: Site, job: str) -> dict[str, Any]:
    """Run a job until it has ended, as often as it takes."""
    for _ in range(20):
        late = site.services.clock() - timedelta(seconds=1)
        site.services.store.commit([Set(APP.job(job), {"due_at": late}, merge=True)])
        site.runner.run(job)
        found = site.services.jobs.find(job)
        assert found is not None
        if found.finished:
            break
    run_due(site)
    assert found.state == "succeeded", found
    done: dict[str, Any] = json.loads(found.result or "")
    return done


def everything(store: DocumentStore, root: str = "apps/demo") -> dict[str, Any]:
    return {path: document.data for path in store.tree(root) if (document := store.get(path)) is not None}


def texts(one: User) -> Counter[str]:
    """All messages that a user sees, as often as they see them."""
    found: Counter[str] = Counter()
    for chat in one.get("/v1/chats").get_json()["items"]:
        page = one.get(f"/v1/chats/{chat['id']}?limit=100").get_json()
        found.update(message["text"] for message in page["messages"])
    return found


def belongings(site: Site, one: User, user: Scope) -> dict[str, Any]:
    """The data of a user, as the user sees it."""
    services = site.services
    files = services.files.within(user)
    return {
        "texts": texts(one),
        "documents": Counter(each["name"] for each in one.get("/v1/documents").get_json()["items"]),
        "states": {each["status"] for each in one.get("/v1/documents").get_json()["items"]},
        "files": Counter(b"".join(files.read(each.id)[1]) for each in files.list(100).items),
        "meals": Counter(meal.name for meal in services.data.within(user)(meals).list().items),
        "profiles": Counter(
            each.name for each in services.data.within(APP)(profiles).list().items if each.who == user.uid
        ),
        "notes": Counter(one.get("/v1/memory").get_json()["notes"]),
        "usage": {
            name: value
            for name, value in one.get("/v1/usage").get_json().items()
            if name in {"requests", "input_tokens", "output_tokens", "cost_micro_usd"}
        },
    }


def together(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value | theirs[name]
        if name == "states"
        else {key: value[key] + theirs[name][key] for key in value}
        if name == "usage"
        else value + theirs[name]
        for name, value in ours.items()
    }


def test_everything_moves_once_and_nothing_of_the_guest_is_left(site: Site) -> None:
    guest, ada, bob = live(site, GUEST, "otter", guest=True), live(site, ADA, "badger"), live(site, BOB, "beaver")
    wanted = together(belongings(site, guest, GUEST), belongings(site, ada, ADA))
    others = {path: data for path, data in everything(site.services.store).items() if "bob" in repr((path, data))}
    done = merged(site, ada, guest)
    assert done["moved"]["chats"] == 2
    assert belongings(site, ada, ADA) == wanted
    passages = ada.post("/v1/search", {"query": "otter"}).get_json()["passages"]
    assert passages[0]["text"].startswith("The otter")
    left = {path: data for path, data in everything(site.services.store).items() if GUEST.uid in repr((path, data))}
    assert list(left) == [APP.job(next(iter(left)).rpartition("/")[2])], "the job's own payload alone"
    now = everything(site.services.store)
    assert {path: now.get(path) for path in others} == others
    assert bob.get("/v1/me").status_code == 200


class Killed(BaseException):
    """As kill -9: nothing catches it."""


def created(writes: Any) -> list[str]:
    return [write.path for write in writes if isinstance(write, Create | Set)]


@contextmanager
def at_commit(site: Site, which: int | str, act: Callable[[], None], *, after: bool = False) -> Iterator[list[int]]:
    """Have ``act`` called at one of the commits that follow, before it is made or after it.

    Args:
        which: the commit's number, from 1; or what is in the path of the first document that one of them makes.
    """
    store, seen = site.services.store._ScopedStore__store, [0]  # type: ignore[attr-defined]
    commit, acted = store.commit, threading.Event()

    def counted(writes: Any) -> Any:
        seen[0] += 1
        mine = seen[0] == which if isinstance(which, int) else any(which in path for path in created(writes)[:1])
        mine = mine and not acted.is_set()
        if mine:
            acted.set()
            if not after:
                act()
        at = commit(writes)
        if mine and after:
            act()
        return at

    store.commit = counted
    try:
        yield seen
    finally:
        del store.commit


def die() -> None:
    raise Killed


def world(site: Site) -> tuple[User, User, dict[str, Any]]:
    """A guest and an account that share an id of a chat, of a record and of a file, and what both have together."""
    guest, ada = live(site, GUEST, "otter", guest=True, chat="same"), live(site, ADA, "badger", chat="same")
    wanted = together(belongings(site, guest, GUEST), belongings(site, ada, ADA))
    return guest, ada, wanted


@dataclass(frozen=True)
class Prototype:
    """A folder with a guest and an account, to be copied: what both have together, and their tokens."""

    folder: Path
    wanted: Mapping[str, Any]
    guest: str
    ada: str
    job: str
    commits: int


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Prototype:
    folder = tmp_path_factory.mktemp("prototype")
    with made(folder) as site:
        guest, ada, wanted = world(site)
        job = merge(site, ada, guest).get_json()["id"]
    with made(copied(folder)) as site, at_commit(site, -1, die) as seen:
        site.runner.run(job)
    return Prototype(folder, wanted, guest.token, ada.token, job, seen[0])


def copied(folder: Path) -> Path:
    return Path(copytree(folder, folder.parent / f"{folder.name}-{token_hex(4)}"))


def expire(site: Site, job: str) -> None:
    late = site.services.clock() - timedelta(seconds=1)
    site.services.store.commit([Set(APP.job(job), {"due_at": late}, merge=True)])


def assert_merged(site: Site, ada: User, wanted: Mapping[str, Any]) -> None:
    assert belongings(site, ada, ADA) == wanted
    assert list(site.services.store.tree(GUEST.root)) == []


def in_a_thread(act: Callable[[], Any]) -> Callable[[], None]:
    """Return ``act`` as something that another request does meanwhile."""

    def run() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(act).result()

    return run


Disturbance = Callable[[Site, Prototype], tuple[Callable[[], None], Callable[[], Counter[str]]]]


def killed(site: Site, prototype: Prototype) -> Any:
    del site, prototype
    return die, Counter


def another_worker(site: Site, prototype: Prototype) -> Any:
    """The job's lease is over, and a second worker does the whole of it while the first one is stopped."""
    return in_a_thread(lambda: finished(site, prototype.job)), Counter


def a_message(token: str, site: Site) -> Any:
    answered: Counter[str] = Counter()

    def send() -> None:
        one = User(site.app.test_client(), token)
        if one.send("same", "just now").status_code == 200:
            answered.update(["just now", "So: just now"])

    return in_a_thread(send), lambda: answered


def a_message_of_the_guest(site: Site, prototype: Prototype) -> Any:
    """By an instance that let the guest in a moment before the merge began."""
    assert site.services.guests is not None
    site.services.guests._remember((GUEST.root, True), float("inf"))
    return a_message(prototype.guest, site)


def a_message_of_the_account(site: Site, prototype: Prototype) -> Any:
    return a_message(prototype.ada, site)


DISTURBANCES: list[Disturbance] = [killed, another_worker, a_message_of_the_guest, a_message_of_the_account]


def check_disturbed(site: Site, prototype: Prototype, number: int, disturb: Disturbance, *, after: bool) -> None:
    act, more = disturb(site, prototype)
    with suppress(Killed), at_commit(site, number, act, after=after):
        site.runner.run(prototype.job)
    finished(site, prototype.job)
    ada = User(site.app.test_client(), prototype.ada)
    now = belongings(site, ada, ADA)
    assert now["texts"] == prototype.wanted["texts"] + more()
    for name in prototype.wanted.keys() - {"texts", "usage"}:
        assert now[name] == prototype.wanted[name], name
    assert now["usage"]["cost_micro_usd"] == prototype.wanted["usage"]["cost_micro_usd"]
    assert now["usage"]["requests"] == prototype.wanted["usage"]["requests"] + len(more()) // 2
    assert list(site.services.store.tree(GUEST.root)) == []


@example(0.05, a_message_of_the_guest, False)  # while it is read what the guest has spent
@example(0.0, a_message_of_the_guest, True)
@example(0.5, another_worker, False)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.sampled_from(DISTURBANCES), st.booleans())
def test_whatever_happens_at_any_commit_of_a_merge_loses_and_doubles_nothing(
    prototype: Prototype, where: float, disturb: Disturbance, after: bool
) -> None:
    assert prototype.commits > 15
    with made(copied(prototype.folder)) as site:
        number = 1 + round(where * (prototype.commits - 1))
        check_disturbed(site, prototype, number, disturb, after=after)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 26), st.sampled_from(DISTURBANCES), st.booleans())
def test_the_same_holds_on_firestore(
    firestore_emulator: Emulator, tmp_path: Path, number: int, disturb: Disturbance, after: bool
) -> None:
    name = token_hex(4)
    with closing(firestore_emulator.store(f"demo-merge-{name}")) as store, made(tmp_path / name, store) as site:
        guest, ada, wanted = world(site)
        job = merge(site, ada, guest).get_json()["id"]
        one = Prototype(tmp_path, wanted, guest.token, ada.token, job, 0)
        check_disturbed(site, one, number, disturb, after=after)


def finish_while(site: Site, which: str, act: Callable[[], None]) -> None:
    """Merge the prototype's guest, with ``act`` done in a thread before a commit with such a path."""
    job = next(each["id"] for each in site.services.jobs.mine(ADA, 50, None).items if each["kind"] == "merge_guest")
    with at_commit(site, which, in_a_thread(act)):
        site.runner.run(job)
    finished(site, job)


def test_what_the_guest_changes_while_it_moves_moves_as_it_is_then(prototype: Prototype) -> None:
    meal, chat = GUEST.record("meals", "z-otter"), GUEST.chat("same")
    with made(copied(prototype.folder)) as site:
        store, ada = site.services.store, User(site.app.test_client(), prototype.ada)
        change = Update(meal, {"name": "otter pie"})
        # Not with the first record, whose id the account has as well: that one is read again anyway.
        finish_while(site, f"{ADA.root}/meals/z-otter", lambda: store.commit([change]) and None)
        assert "otter pie" in belongings(site, ada, ADA)["meals"]
    with made(copied(prototype.folder)) as site:
        store, ada = site.services.store, User(site.app.test_client(), prototype.ada)
        change = Update(chat, {"title": "Renamed"})
        finish_while(site, f"{ADA.root}/chats/same-", lambda: store.commit([change]) and None)
        assert "Renamed" in {each["title"] for each in ada.get("/v1/chats").get_json()["items"]}


def test_a_turn_of_the_guest_that_is_running_ends_well_and_is_paid_before_anything_moves(tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()

    def slow(turn: Turn) -> Iterator[Chunk]:
        if turn.text == "slowly":
            held.set()
            assert go_on.wait(30)
        yield Chunk(f"So: {turn.text}")

    with embedded_site(tmp_path, started=False, workflow=slow, settings=JOB_SETTINGS + GUESTS) as site:
        guest, ada = sign_in(site.app, "guest-uid", guest=True), sign_in(site.app, "ada")
        chat = guest.new_chat()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(guest.send, chat, "slowly")
            assert held.wait(30)
            job = merge(site, ada, guest).get_json()["id"]
            site.runner.run(job)
            waits = site.services.jobs.find(job)
            assert waits is not None
            assert (waits.state, waits.attempts) == ("queued", 0)
            assert code(User(site.app.test_client(), guest.token).send(chat, "more"))[0] == 403
            go_on.set()
            assert running.result().status_code == 200
        finished(site, job)
        assert texts(ada) == Counter(["slowly", "So: slowly"])
        assert ada.get("/v1/usage").get_json()["requests"] == 1


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_a_guest_is_merged_once_into_one_account(site: Site) -> None:
    guest, ada, bob = (
        live(site, GUEST, "otter", guest=True),
        sign_in(site.app, "ada"),
        sign_in(site.app, "bob"),
    )
    seen = texts(guest)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: merge(site, one, guest), [ada, bob] * 4))
    winners = {answer.get_json()["id"] for answer in answers if answer.status_code == 202}
    assert len(winners) == 1
    assert {answer.status_code for answer in answers} == {202, 409}
    winner, loser = (ada, bob) if answers[0].status_code == 202 else (bob, ada)
    (job,) = winners
    finished(site, job)
    assert (texts(winner), texts(loser)) == (seen, Counter())
    assert merge(site, winner, guest).get_json()["id"] == job
    assert code(merge(site, loser, guest)) == (409, "conflict")
    assert code(guest.get("/v1/chats")) == (403, "anonymous_account")


def test_a_merged_guests_token_begins_nothing_on_any_instance(site: Site) -> None:
    guest, ada = live(site, GUEST, "otter", guest=True), sign_in(site.app, "ada")
    merged(site, ada, guest)
    assert code(guest.post("/v1/chats")) == (403, "anonymous_account")
    assert site.services.guests is not None
    site.services.guests._remember((GUEST.root, True), float("inf"))  # an instance that has not heard of it
    assert code(guest.post("/v1/chats"))[0] == 409
    assert guest.upload("late.txt", b"late").status_code == 409
    erasure_of(site.services).run(GUEST.uid or "")  # an operator's, which forgets no merge
    assert code(guest.post("/v1/chats"))[0] == 409
    assert list(site.services.store.tree(GUEST.root)) == []


def test_tokens_that_are_no_guests_merge_nothing(site: Site) -> None:
    ada, bob, guest = live(site, ADA, "badger"), live(site, BOB, "beaver"), sign_in(site.app, "linked", guest=True)
    before = everything(site.services.store)
    assert code(merge(site, ada, bob)) == (400, "invalid_request")
    assert code(merge(site, ada, ada)) == (400, "invalid_request")
    assert code(ada.post("/v1/me/merge", {"guest_token": "x"})) == (400, "invalid_request")
    assert code(merge(site, guest, guest)) == (403, "anonymous_account")
    assert code(merge(site, sign_in(site.app, "ada"), sign_in(site.app, "ada", guest=True))) == (400, "invalid_request")
    assert everything(site.services.store) | {Scope("demo", "linked").root: {"guest": True}} == before | {
        Scope("demo", "linked").root: {"guest": True}
    }


def test_a_guests_old_token_hands_nobody_the_account_that_the_guest_has_since(site: Site) -> None:
    stolen = live(site, GUEST, "otter", guest=True)
    linked, thief = sign_in(site.app, "guest-uid"), sign_in(site.app, "thief")
    linked.get("/v1/me")
    seen = texts(linked)
    assert code(merge(site, thief, stolen)) == (409, "conflict")
    site.services.store.commit([Delete(GUEST.root), Set(GUEST.member(), {"role": "member"})])
    assert code(merge(site, thief, stolen)) == (409, "conflict")
    assert texts(linked) == seen


def test_whoever_was_removed_as_a_guest_brings_nothing_along(site: Site) -> None:
    guest, ada = live(site, GUEST, "otter", guest=True), sign_in(site.app, "ada")
    site.services.store.commit([Set(GUEST.removal(str(GUEST.uid)), {"removed_at": site.services.clock()})])
    assert code(merge(site, ada, guest)) == (403, "removed")


def test_an_account_takes_in_ten_guests_a_day(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    statuses = [merge(site, ada, sign_in(site.app, f"g{number}", guest=True)).status_code for number in range(11)]
    assert statuses == [202] * 10 + [429]


def test_what_a_guest_has_in_another_app_of_the_project_stays_there(site: Site) -> None:
    guest, ada, raw = live(site, GUEST, "otter", guest=True), sign_in(site.app, "ada"), site.services.store
    inner = raw._ScopedStore__store  # type: ignore[attr-defined]
    other = [
        Create("apps/other/users/guest-uid", {"guest": True}),
        Create("apps/other/users/guest-uid/chats/c1", {"title": "elsewhere"}),
        Create("apps/other/requests/r1", {"uid": "guest-uid"}),
    ]
    inner.commit(other)
    merged(site, ada, guest)
    assert [inner.get(write.path).data for write in other] == [write.data for write in other]
    assert list(inner.tree("apps/other/users/ada")) == []


def test_erasing_an_account_erases_the_guest_that_is_on_its_way_to_it(site: Site) -> None:
    guest, ada = live(site, GUEST, "otter", guest=True), live(site, ADA, "badger")
    job = merge(site, ada, guest).get_json()["id"]
    with at_commit(site, "/documents/", in_a_thread(lambda: erasure_of(site.services).run("ada") and None)):
        site.runner.run(job)
    left = {path: data for path, data in everything(site.services.store).items() if "otter" in repr((path, data))}
    assert left == {}
    assert list(site.services.store.tree(GUEST.root)) + list(site.services.store.tree(ADA.root)) == []


def test_a_merge_that_was_given_up_begins_again_when_it_is_asked_for(site: Site) -> None:
    guest, ada = live(site, GUEST, "otter", guest=True), sign_in(site.app, "ada")
    seen, first = texts(guest), merge(site, ada, guest).get_json()["id"]
    assert ada.post(f"/v1/jobs/{first}/cancel").get_json()["state"] == "cancelled"
    again = merge(site, ada, guest).get_json()["id"]
    assert again != first
    finished(site, again)
    assert texts(ada) == seen


NUMBER = st.integers(0, 10**9)
MONEY = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("requests", "cost_micro_usd", "input_tokens", "expired_micro_usd", "expired_requests"), NUMBER
        ),
        "models": st.dictionaries(st.sampled_from(["x", "y"]), st.fixed_dictionaries({"cost_micro_usd": NUMBER})),
    },
)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(guests=MONEY, ours=MONEY, expired=st.lists(st.integers(0, 10**6), max_size=3), days=st.integers(0, 2))
def test_what_a_guest_has_spent_counts_as_the_accounts(
    site: Site, guests: dict[str, Any], ours: dict[str, Any], expired: list[int], days: int
) -> None:
    uid, services = token_hex(8), site.services
    day = (services.clock() - timedelta(days=days)).date().isoformat()
    late = services.clock() - timedelta(seconds=1)
    held = {f"r{n}": {"micro_usd": micro, "expires_at": late} for n, micro in enumerate(expired)}
    guest, account = Scope("demo", f"g-{uid}"), Scope("demo", f"a-{uid}")
    services.store.commit(
        [
            Set(guest.root, {"guest": True}),
            Set(guest.usage(day), {**guests, "reservations": held, "minute": "10:00", "minute_requests": 7}),
            Set(account.usage(day), {**ours, "minute": "10:01", "minute_requests": 1}),
        ]
    )
    merged(site, sign_in(site.app, account.uid or ""), sign_in(site.app, guest.uid or "", guest=True))
    usage = services.store.get(account.usage(day))
    assert usage is not None
    wanted = added(guests, ours)
    if expired:
        wanted = added(wanted, {"expired_requests": len(expired), "expired_micro_usd": sum(expired)})
    left_out = {"updated_at", "merges"}
    now = {name: value for name, value in usage.data.items() if name not in left_out and value}
    assert now == {**{k: v for k, v in wanted.items() if v}, "minute": "10:01", "minute_requests": 1}


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: added(one.get(name, {}), other.get(name, {}))
        if isinstance(one.get(name, other.get(name)), dict)
        else one.get(name, 0) + other.get(name, 0)
        for name in {**one, **other}
    }
