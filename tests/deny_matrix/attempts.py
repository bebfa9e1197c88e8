"""The generator: from the table's places and the tokens to attempts, each with the answer it must get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any, Literal

from .table import MODEL, OWN, UNNAMED, Place, Right, allows
from .tokens import APPS, PRINCIPAL, TOKENS, USERS

__all__ = ["Attempt", "Operation", "attempts", "for_javascript", "on_own_collections", "own_places", "places"]

Way = Literal["rest", "listen", "client", "javascript"]
Data = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to try at one place.

    Args:
        way: raw REST, a listener's stream, a call of the real Python client, or one of the real JavaScript SDK.
        target: path of a document, or of a collection, or "<parent>/**/<collection>" of a collection group.
        data: fields of a write.
    """

    name: str
    way: Way
    right: Right
    target: str
    data: Data = field(default=(), hash=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A token's try, and whether the table allows it."""

    token: str
    operation: Operation
    allowed: bool

    def __str__(self) -> str:
        said = "should be allowed" if self.allowed else "should be denied"
        return f"{self.token}: {self.operation.name} ({self.operation.way}) {self.operation.target} {said}"


_VALID: Data = (("title", "A new name"),)
_NEW: Data = (*_VALID, ("archived", False))

_ON_DOCUMENTS: dict[str, tuple[Right, Data]] = {
    "get": ("get", ()),
    "get in a batch": ("get", ()),
    "get in a transaction": ("get", ()),
    "create": ("create", _NEW),
    "rename": ("rename", _VALID),
    "rename in a batch": ("rename", _NEW),
    "rename in a transaction": ("rename", _VALID),
    "change a field of the server": ("change", (("plan", "gold"),)),
    "overwrite": ("change", _VALID),
    "delete": ("delete", ()),
    "delete in a transaction": ("delete", ()),
}
_ON_CHATS: dict[str, tuple[Right, Data]] = {
    "archive": ("rename", (("archived", True),)),
    "rename to nothing": ("rename", (("title", ""),)),
    "rename as long as may be": ("rename", (("title", "x" * 200),)),
    "rename too long": ("change", (("title", "x" * 201),)),
    "rename to a number": ("change", (("title", 1),)),
    "rename to a list": ("change", (("title", ["a"]),)),
    "rename to null": ("change", (("title", None),)),
    "archive with text": ("change", (("archived", "yes"),)),
    "rename and change the count": ("change", (*_VALID, ("message_count", 0))),
    "rename and add a field": ("change", (*_VALID, ("shared_with", ["mallory"]))),
    "change the time": ("change", (("updated_at", "now"),)),
    "increment the count": ("change", (("message_count", 1),)),
    "rename, and create another in the same batch": ("change", _VALID),
}
_ON_COLLECTIONS = ("list", "query", "query in a transaction", "query one by name", "count", "find nearest")
_ON_GROUPS = ("query the group", "count the group", "find nearest in the group")
_BY_CLIENT = (
    "get",
    "get in a transaction",
    "create",
    "rename",
    "rename in a batch",
    "rename in a transaction",
    "delete",
)
_BY_CLIENT_IN_COLLECTIONS = ("query", "count", "find nearest", "query the group")
_BY_JAVASCRIPT = (*_BY_CLIENT, "change a field of the server", "overwrite", "delete in a transaction")
_BY_JAVASCRIPT_IN_COLLECTIONS = ("list", "query", "count", "query the group", "count the group")


@cache
def places() -> tuple[Place, ...]:
    """All documents that firelaunch knows or nobody does, in all apps, of all users; each once."""
    return _places((*MODEL, *UNNAMED))


@cache
def own_places() -> tuple[Place, ...]:
    """All documents of apps' own collections, in all apps, of all users; each once."""
    return _places(tuple(OWN))


def _places(templates: Sequence[str]) -> tuple[Place, ...]:
    found: dict[str, Place] = {}
    for template, app, uid in product(templates, APPS, USERS):
        place = Place(template, app, uid)
        found.setdefault(place.path, place)
    return tuple(found.values())


def _rest(place: Place) -> Iterator[Operation]:
    collection, _, _ = place.path.rpartition("/")
    group = collection.rpartition("/")[2]
    for name, (right, data) in _ON_DOCUMENTS.items():
        yield Operation(name, "rest", right, place.path, data)
    for name, (right, data) in _ON_CHATS.items() if group == "chats" else ():
        yield Operation(name, "rest", right, place.path, data)
    for name in _ON_COLLECTIONS:
        yield Operation(name, "rest", "list", place.path if "by name" in name else collection)
    for name in _ON_GROUPS:
        yield Operation(name, "rest", "group", f"**/{group}")
    for parent in ("", f"/users/{place.uid}", f"/groups/of-{place.uid}"):
        yield Operation(_ON_GROUPS[0], "rest", "group", f"apps/{place.app}{parent}/**/{group}")


def _listen(place: Place) -> Iterator[Operation]:
    collection, _, _ = place.path.rpartition("/")
    yield Operation("listen to a document", "listen", "get", place.path)
    yield Operation("listen to a query", "listen", "list", collection)
    yield Operation("listen to a group", "listen", "group", f"**/{collection.rpartition('/')[2]}")


def _client(place: Place) -> Iterator[Operation]:
    yield from _calls(place, "client", _BY_CLIENT, _BY_CLIENT_IN_COLLECTIONS)


def _javascript(place: Place) -> Iterator[Operation]:
    yield from _calls(place, "javascript", _BY_JAVASCRIPT, _BY_JAVASCRIPT_IN_COLLECTIONS)
    for operation in _listen(place):
        yield replace(operation, way="javascript")


def _calls(place: Place, way: Way, on_documents: Sequence[str], in_collections: Sequence[str]) -> Iterator[Operation]:
    collection, _, _ = place.path.rpartition("/")
    for name in on_documents:
        right, data = _ON_DOCUMENTS[name]
        yield Operation(name, way, right, place.path, data)
    for name in in_collections:
        grouped = name.endswith("group")
        target = f"**/{collection.rpartition('/')[2]}" if grouped else collection
        yield Operation(name, way, "group" if grouped else "list", target)


@cache
def attempts() -> tuple[Attempt, ...]:
    """All attempts, each once.

    Over REST the principal tokens try everything at every place (of those outside the data model, at one app's). Each
    other token tries everything that the table allows it, and at each place one of the other operations in turn.
    Listeners have every token at every place. The Python client has the principal tokens in one app, at one user's
    places.
    """
    return _attempts(places())


@cache
def on_own_collections() -> tuple[Attempt, ...]:
    """The same at the places of apps' own collections, for rules that have apps' own in them."""
    return _attempts(own_places())


def _attempts(there: Sequence[Place]) -> tuple[Attempt, ...]:
    found: dict[tuple[str, str, str, str], Attempt] = {}

    def add(token: str, place: Place, operation: Operation, *, wanted: bool) -> None:
        allowed = allows(TOKENS[token], place, operation.right)
        if wanted or allowed:
            key = (token, operation.way, operation.name, operation.target)
            found.setdefault(key, Attempt(token, operation, allowed))

    for (turn, token), (number, place) in product(enumerate(TOKENS), enumerate(there)):
        choices = list(_rest(place))
        elsewhere = place.template in UNNAMED and place.app != APPS[0]
        for index, operation in enumerate(choices):
            in_turn = index == (turn + number) % len(choices)
            add(token, place, operation, wanted=in_turn or (token in PRINCIPAL and not elsewhere))
        for operation in _listen(place):
            add(token, place, operation, wanted=True)
        if token in PRINCIPAL and (place.app, place.uid) == (APPS[0], USERS[0]):
            for operation in _client(place):
                add(token, place, operation, wanted=True)
    return tuple(found.values())


@cache
def for_javascript() -> tuple[Attempt, ...]:
    """The slice for the JavaScript SDK, each attempt once.

    At one user's places of the data model in one app the principal tokens try everything; every other token there, and
    the principal ones outside the data model, try one operation in turn.
    """
    found: dict[Attempt, None] = {}
    here = [place for place in places() if (place.app, place.uid) == (APPS[0], USERS[0])]
    for (turn, token), (number, place) in product(enumerate(TOKENS), enumerate(here)):
        choices = list(_javascript(place))
        principal, named = token in PRINCIPAL, place.template in MODEL
        if not (principal and named):
            choices = [choices[(turn + number) % len(choices)]] if principal or named else []
        for operation in choices:
            found[Attempt(token, operation, allows(TOKENS[token], place, operation.right))] = None
    return tuple(found)
