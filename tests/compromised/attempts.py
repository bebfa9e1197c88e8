"""The one table of attempts: code of app ``alpha`` after the data of app ``beta``.

An attempt takes the app's ``Services`` and does its worst; what it must come to is an error, or a result without the
other app's data. What uses Python's own back doors is not here: see ``BACK_DOORS`` in the test beside. Vector
searches, jobs and kept answers have their table in :mod:`.rooms`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

from firelaunch.identity import Caller
from firelaunch.metering.reservations import Day, Quote
from firelaunch.scope import Scope
from firelaunch.services.bundle import Services
from firelaunch.shutdown import Shutdown
from firelaunch.store.base import Create, Delete, Filter, Increment, Order, Query, Set, Update
from firelaunch.store.scoped import ScopedStore
from firelaunch.turns.admit import Turns

__all__ = ["ATTEMPTS", "CHAT", "MINE", "SECRET", "THEIRS", "Attempt"]

Attempt = Callable[[Services], Any]

SECRET = "beta-only"
"""In every field of the other apps' documents."""

MINE = "apps/alpha/users/ada"
THEIRS = "apps/beta/users/ada"
CHAT = f"{THEIRS}/chats/c1"
_BETA = Scope("beta", "ada")

PATHS = {
    "as it is": CHAT,
    "an app of a longer name": "apps/alpha-2/users/ada/chats/c1",
    "up and over": f"{MINE}/../../../beta/users/ada/chats/c1",
    "up and over from the root": "apps/alpha/../beta/users/ada/chats/c1",
    "empty segments": "apps//beta/users/ada/chats/c1",
    "a dot": "apps/./beta/users/ada/chats/c1",
    "a slash before": f"/{CHAT}",
    "a slash after": f"{CHAT}/",
    "a full resource name": f"projects/demo/databases/(default)/documents/{CHAT}",
    "another database": f"../../databases/beta/documents/{CHAT}",
    "percent-encoded": "apps/alpha%2F..%2Fbeta/users/ada",
    "percent-encoded below": f"{MINE}/chats/..%2F..%2F..%2F..%2Fbeta%2Fusers%2Fada%2Fchats%2Fc1",
    "a backslash": "apps\\beta\\users\\ada",
    "a backslash below": f"{MINE}/chats/..\\..\\..\\..\\beta",
    "a fullwidth slash": f"{MINE}/chats/c1／..／..／beta",  # noqa: RUF001 - that is the attempt
    "a division slash": "apps/alpha∕..∕beta/users/ada",  # noqa: RUF001
    "a Cyrillic a": "apps/аlpha/users/ada",  # noqa: RUF001
    "fullwidth letters": "apps/ｂｅｔａ/users/ada/chats/c1",  # noqa: RUF001
    "a zero-width space": "apps/alpha\u200b/users/ada",
    "other case": "apps/BETA/users/ada/chats/c1",
    "a combining mark": "apps/alpha\u0301/users/ada",
    "a null byte": f"{CHAT}\x00{MINE}",
    "a null byte below": f"{MINE}\x00/../../../beta",
    "a line break": f"apps/alpha\n/{THEIRS}",
    "a reserved id": "apps/__beta__/users/ada",
    "a reserved id below": f"{MINE}/chats/__id7__",
    "an over-long id": f"{MINE}/chats/{'x' * 1501}",
    "an over-long path": f"{MINE}/chats/c1" + "/parts/" * 400 + "p",
    "half a surrogate pair": f"{MINE}/chats/\ud800",
    "a wildcard": "apps/*/users/ada",
    "SQL": f"{MINE}/chats/' OR path LIKE 'apps/beta%",
    "no path": None,
    "bytes": CHAT.encode(),
    "a list": ["apps", "beta", "users", "ada"],
}


class TwoFaced(str):
    """Says a path of its own app to whoever asks, and holds another."""

    def split(self, *_: Any, **__: Any) -> list[str]:
        return MINE.split("/")

    def __format__(self, _: str) -> str:
        return "c1/../../../../beta/users/ada/chats/c1"

    def __eq__(self, _: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(CHAT)


class Shifty:
    """Each time another answer: first what the wall wants to see."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)

    def next(self) -> Any:
        return next(self._answers, CHAT)


class ShiftyQuery(Query):
    """Its collection is this app's for the first look."""

    def __getattribute__(self, name: str) -> Any:
        if name != "collection":
            return super().__getattribute__(name)
        looked = _looks.setdefault(id(self), [])
        looked.append(1)
        return f"{MINE}/chats" if len(looked) == 1 else f"{THEIRS}/chats"


_looks: dict[int, list[int]] = {}


class ShiftySet(Set):
    """Its path is this app's for the first look."""

    def __getattribute__(self, name: str) -> Any:
        if name != "path":
            return super().__getattribute__(name)
        looked = _looks.setdefault(id(self), [])
        looked.append(1)
        return MINE if len(looked) == 1 else CHAT


class ShiftyList(list[Any]):
    """Holds this app's paths when it is first gone through."""

    def __init__(self, first: Any, then: Any) -> None:
        super().__init__([then])
        self._turns = Shifty([first])
        self._then = then

    def __iter__(self) -> Iterator[Any]:
        found = self._turns.next()
        return iter(found if isinstance(found, list) else [self._then])


class ForgedScope(Scope):
    """A scope whose paths lead elsewhere."""

    @property
    def root(self) -> str:
        return THEIRS

    def chats(self) -> str:
        return f"{THEIRS}/chats"

    def chat(self, chat_id: str) -> str:
        return f"{THEIRS}/chats/{chat_id}"

    def messages(self, chat_id: str) -> str:
        return f"{THEIRS}/chats/{chat_id}/messages"

    def usage(self, day: str) -> str:
        return f"{THEIRS}/usage/{day}"

    def call(self, call_id: str) -> str:
        return f"apps/beta/calls/{call_id}"

    def request(self, request_id: str) -> str:
        return f"apps/beta/requests/{request_id}"


def _on_path(path: Any) -> dict[str, Attempt]:
    """Everything that takes a path."""
    inside = f"{MINE}/chats/c1"
    return {
        "get": lambda s: s.store.get(path),
        "get many": lambda s: s.store.get_many([inside, path]),
        "read": lambda s: s.store.read([path], []),
        "read a query": lambda s: s.store.read([inside], [Query(path)]),
        "query": lambda s: s.store.query(Query(path)),
        "query below": lambda s: s.store.query(Query(f"{str.__str__(path) if path else path}/messages")),
        "count": lambda s: s.store.count(Query(path)) or None,
        "set": lambda s: s.store.commit([Set(path, {"by": "alpha"})]),
        "create": lambda s: s.store.commit([Create(path, {"by": "alpha"})]),
        "update": lambda s: s.store.commit([Update(path, {"by": "alpha"})]),
        "increment": lambda s: s.store.commit([Set(path, {"n": Increment(1)}, merge=True)]),
        "delete": lambda s: s.store.commit([Set(inside, {"title": "mine"}), Delete(path)]),
        "delete all": lambda s: s.store.delete_tree(path),
        "get in a transaction": lambda s: s.store.transaction(lambda t: t.get(path)),
        "query in a transaction": lambda s: s.store.transaction(lambda t: t.query(Query(path))),
        "write in a transaction": lambda s: s.store.transaction(lambda t: t.write(Set(path, {"by": "alpha"}))),
    }


def _paths() -> dict[str, Attempt]:
    found = {f"{what} by {name}": attempt for name, path in PATHS.items() for what, attempt in _on_path(path).items()}
    two_faced = {f"{what} by a string that lies": attempt for what, attempt in _on_path(TwoFaced(CHAT)).items()}
    return found | two_faced


OBJECTS: dict[str, Attempt] = {
    "a query that changes": lambda s: s.store.query(ShiftyQuery(f"{THEIRS}/chats")),
    "a query that changes, counted": lambda s: s.store.count(ShiftyQuery(f"{THEIRS}/chats")) or None,
    "a write that changes": lambda s: s.store.commit([ShiftySet(CHAT, {"by": "alpha"})]),
    "paths that change": lambda s: s.store.get_many(ShiftyList(MINE, CHAT)),
    "writes that change": lambda s: s.store.commit(ShiftyList(Set(MINE, {}), Delete(CHAT))),
    "queries that change": lambda s: s.store.read([], ShiftyList(Query(f"{MINE}/chats"), Query(f"{THEIRS}/chats"))),
    "a write of no known kind": lambda s: s.store.commit([Shifty()]),  # type: ignore[list-item]
    "a transaction kept for later": lambda s: _later(s).get(CHAT),
}


def _later(services: Services) -> Any:
    kept: list[Any] = []
    services.store.transaction(lambda transaction: kept.append(transaction))
    return kept[0]


def _filtered(*where: Any, order: Any = (), after: Any = None, limit: Any = None) -> Attempt:
    query = Query(f"{MINE}/chats", where, order, limit, after)
    return lambda services: services.store.query(query)


FILTERS: dict[str, Attempt] = {
    "SQL for a comparison": _filtered(Filter("title", "= ?) OR 1=1 --", SECRET)),  # type: ignore[arg-type]
    "SQL for a field": _filtered(Filter("title') IS NOT NULL) OR 1=1 --", "==", SECRET)),
    "SQL for an order": _filtered(order=(Order("title') FROM documents --"),)),
    "SQL for a value": _filtered(Filter("title", "==", "' OR '1'='1")),
    "a field that lies": _filtered(Filter(TwoFaced("title"), "==", SECRET)),
    "an order that lies": _filtered(order=(Order(TwoFaced("title")),)),
    "the name of another's document": _filtered(Filter("__name__", "==", CHAT)),
    "names from another's on": _filtered(Filter("__name__", ">=", CHAT)),
    "everything but what is not there": _filtered(Filter("title", "!=", "nothing")),
    "any of many": _filtered(Filter("title", "in", [SECRET, "Mine"])),
    "a field of quotes": _filtered(Filter("`apps/beta`", "==", SECRET)),
    "a page after another's document": _filtered(after=(f"../../../../beta/users/ada/chats/{'c0'}",)),
    "a page after another's messages": _filtered(after=("c1/messages/m0",)),
    "a limit below zero": _filtered(limit=-1),
    "a limit that is SQL": _filtered(limit="1 UNION SELECT path, data, created, updated FROM documents"),
    "a group of collections": lambda s: s.store.query(Query("chats")),
    "a group below the app": lambda s: s.store.query(Query("apps/alpha/**/chats")),
}

FIELDS: dict[str, Attempt] = {
    f"{kind.__name__.lower()} of the field {name!r}": lambda s, kind=kind, name=name: s.store.commit(  # type: ignore[misc]
        [kind(f"{MINE}/chats/c1", {name: "alpha"})]
    )
    for kind in (Set, Update)
    for name in (f"../{THEIRS}", "__name__", "`apps/beta`", "apps/beta.title", "a..b", ".", "__path__.beta", "x" * 2000)
}


def _mutated(scope: Scope) -> Scope:
    object.__setattr__(scope, "app_id", "beta")
    return scope


def _restored(services: Services) -> Any:
    state = pickle.dumps(services.store.scope).replace(b"\x05alpha", b"\x04beta")
    return ScopedStore(services.store, pickle.loads(state)).get(CHAT)  # noqa: S301 - that is the attempt


def _initialised_again(services: Services) -> Any:
    own = copy.copy(services.store)
    own.__init__(services.store, _BETA)  # type: ignore[misc]
    return own.get(CHAT)


def _renamed(services: Services) -> Any:
    own = copy.copy(services.store)
    own.scope = Scope("beta")
    return own.get(CHAT)


SCOPES: dict[str, Attempt] = {
    "a scope of its own": lambda s: s.chats.list(_BETA, 10, None).items,
    "dataclasses.replace": lambda s: (
        s.chats.list(dataclasses.replace(Scope("alpha", "ada"), app_id="beta"), 10, None).items
    ),
    "object.__setattr__": lambda s: s.chats.list(_mutated(Scope("alpha", "ada")), 10, None).items,
    "object.__setattr__ on the store's own": lambda s: (_mutated(copy.copy(s.store.scope)), s.store.get(CHAT)),
    "pickle": _restored,
    "copy, initialised again": _initialised_again,
    "copy, with another scope": _renamed,
    "a subclass": lambda s: s.chats.list(ForgedScope("alpha", "ada"), 10, None).items,
    "a subclass for a store": lambda s: ScopedStore(s.store, ForgedScope("alpha")).get(CHAT),
    "a wall around the wall": lambda s: ScopedStore(s.store, Scope("beta")).get(CHAT),
    "services made anew": lambda s: dataclasses.replace(s, store=ScopedStore(s.store, Scope("beta"))).store.get(CHAT),
    "a chat": lambda s: s.chats.get(_BETA, "c1", 10, None),
    "a chat by a forged scope": lambda s: s.chats.get(ForgedScope("alpha", "ada"), "c1", 10, None),
    "a rename": lambda s: s.chats.change(_BETA, "c1", {"title": "alpha's"}),
    "a new chat": lambda s: s.chats.create(_BETA, "alpha's"),
    "a deletion": lambda s: s.chats.delete(_BETA, "c1"),
    "an app id with a path": lambda s: s.chats.list(Scope("alpha/../beta", "ada"), 10, None),
    "a user id with a path": lambda s: s.chats.list(Scope("alpha", "../../beta/users/ada"), 10, None),
    "a user id that lies": lambda s: s.chats.list(Scope("alpha", TwoFaced("ada")), 10, None),
    "an app id that lies": lambda s: s.chats.list(Scope(TwoFaced("alpha"), "ada"), 10, None),
}

BAD_IDS = {
    "up and over": "../../../../beta/users/ada/chats/c1",
    "a path": "c1/messages/m1",
    "two dots": "..",
    "reserved": "__c1__",
    "percent-encoded": "..%2F..%2F..%2F..%2Fbeta%2Fusers%2Fada%2Fchats%2Fc1",
    "a fullwidth slash": "c1／..",  # noqa: RUF001
    "a Cyrillic c": "с1",  # noqa: RUF001
    "a line break": "c1\n",
    "a null byte": "c1\x00",
    "over-long": "c" * 65,
    "empty": "",
    "a wildcard": "*",
    "that lies": TwoFaced("c1"),
    "another app's message": "beta-message",
    "another app's chat": "beta-chat",
}


def _on_id(value: Any) -> dict[str, Attempt]:
    """Everything that takes an id."""
    ada = Scope("alpha", "ada")
    return {
        "chat": lambda s: s.chats.get(ada, value, 10, None),
        "rename": lambda s: s.chats.change(ada, value, {"title": SECRET[:4]}),
        "deletion": lambda s: s.chats.delete(ada, value),
        "message": lambda s: s.store.get(ada.message("c1", value)),
        "message in the chat": lambda s: s.store.get(ada.message(value, "m1")),
        "request": lambda s: s.store.get(ada.request(value)),
        "call": lambda s: s.store.get(ada.call(value)),
        "day of usage": lambda s: s.store.get(ada.usage(value)),
        "cursor": lambda s: s.chats.list(ada, 10, _cursor(value)).items,
        "cursor of messages": lambda s: s.chats.get(ada, "c1", 10, _cursor(value)),
        "prompt": lambda s: s.prompts.get(value),
        "turn": lambda s: _turn(s, Caller("alpha", "ada", "member"), value, "key-1"),
        "idempotency key": lambda s: _turn(s, Caller("alpha", "ada", "member"), "c1", f"{value!s}"),
    }


def _cursor(chat_id: str) -> str:
    position = json.dumps(["2026-01-01T00:00:00.000000Z", chat_id])
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _turn(services: Services, caller: Any, chat_id: str, key: str | None) -> Any:
    turns = Turns(services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]), Shutdown())
    return list(turns.begin(caller, chat_id, "Tell me", key, streamed=False).events())


IDS = {f"{what}: an id {name}": attempt for name, value in BAD_IDS.items() for what, attempt in _on_id(value).items()}

TURNS: dict[str, Attempt] = {
    "a caller of the other app": lambda s: _turn(s, Caller("beta", "ada", "member"), "c1", None),
    "the key of the other app's request": lambda s: _turn(s, Caller("beta", "ada", "member"), "c1", "key-beta"),
    "a key that is the other app's scope": lambda s: _turn(
        s, Caller("alpha", "ada", "member"), "c1", f"x\n{THEIRS}\nkey-beta"
    ),
    "an admin of the other app": lambda s: _turn(s, Caller("beta", "ada", "admin"), "c1", "key-beta"),
    "the other app's budget": lambda s: s.store.commit(
        s.metering.reserve(_BETA, "2026-01-31", Day({}, None), None, "r1", Quote("offline", 0), Quote("offline", 0))[1]
    ),
    "a reservation of the other app, settled": lambda s: s.store.commit(_reservation(s).settlement()),
    "a reservation of the other app, extended": lambda s: _reservation(s).cover(1),
}


def _reservation(services: Services) -> Any:
    quote = Quote("offline", 0)
    return services.metering.reserve(_BETA, "2026-01-31", Day({}, None), None, "r1", quote, quote)[0]


ATTEMPTS: dict[str, Attempt] = {
    f"{room}: {name}": attempt
    for room, attempts in {
        "path": _paths(),
        "object": OBJECTS,
        "filter": FILTERS,
        "field": FIELDS,
        "scope": SCOPES,
        "id": IDS,
        "turn": TURNS,
    }.items()
    for name, attempt in attempts.items()
}
