"""Single requests in the words of :mod:`.semantics`: what a formula says of one, and one that a formula asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import z3

from .semantics import KINDS, FormulaWords, Value, has

__all__ = ["SampleRequest", "sample"]

_OF_EVERY_TOKEN = frozenset({"iss", "aud", "iat", "exp", "auth_time", "user_id", "sub", "firebase"})
"""Claims that tokens have without being asked for. Nothing is said of them."""
_NAMES = ("ada", "bob", "cora", "dan")
"""What strings are called that rules compare with others and do not write out."""
_DEEPEST = 1
"""How deep maps in maps are looked into."""


@dataclass(frozen=True)
class SampleRequest:
    """A request for one document.

    Attributes:
        uid: the user's id; None for nobody.
        claims: the claims of the user's token.
        path: the segments of the document's path, from "databases" on.
        document: the fields of the document that is there; None if there is none.
        sent: the fields of the document as it would be after a create or an update.
    """

    method: str
    uid: str | None
    path: tuple[str, ...]
    claims: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] | None = None
    sent: Mapping[str, Any] | None = None

    def facts(self, words: FormulaWords) -> list[Any]:
        """Return what is true of this request alone, in addition to what is true of all with its method."""
        keys = list(words.strings)
        request, resource = words.name("request"), words.name("resource")
        auth = words.member(request, "auth")
        facts = [z3.Int(f"segment {place}") == words.number(part) for place, part in enumerate(self.path)]
        facts.append((auth == Value.null) == z3.BoolVal(self.uid is None))
        if self.uid is not None:
            facts.append(words.member(auth, "uid") == words.string(self.uid))
            token = words.member(auth, "token")
            facts += _fields(words, token, self.claims, [key for key in keys if key not in _OF_EVERY_TOKEN])
        if self.method == "list":
            return facts  # of documents, rules know only what the query asks for
        facts.append((resource == Value.null) == z3.BoolVal(self.document is None))
        if self.document is not None:
            facts += _fields(words, words.member(resource, "data"), self.document, keys)
        if self.sent is not None:
            facts += _fields(words, words.member(words.member(request, "resource"), "data"), self.sent, keys)
        return facts

    def smaller(self) -> Iterator[SampleRequest]:
        """Yield this request without a claim or a field, and with an empty document where there is none."""
        for name in ("claims", "document", "sent"):
            data: Mapping[str, Any] | None = getattr(self, name)
            if data is None and name == "document" and self.method in {"get", "delete"}:
                yield replace(self, document={})
            for key in data or ():
                changed: dict[str, Any] = {name: {other: item for other, item in (data or {}).items() if other != key}}
                yield replace(self, **changed)

    def shown(self) -> str:
        """Return the request in words: "as ada: get notes/x, which is {"open": true}"."""
        who = "nobody" if self.uid is None else self.uid
        claims = f" with {_json(self.claims)}" if self.claims else ""
        path = "/".join(self.path[3:])
        if self.method == "list":
            path = path.rpartition("/")[0]
        return f"as {who}{claims}: {self.method} {path}{self._data()}"

    def _data(self) -> str:
        if self.method == "create":
            return f" as {_json(self.sent)}" if self.sent else ""
        if self.method == "update":
            return f" from {_json(self.document)} to {_json(self.sent)}" if self.document or self.sent else ""
        if self.method == "list":
            return ""
        if self.document is None:
            return ", which is not there"
        return f", which is {_json(self.document)}" if self.document else ""


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


class _Unshowable(Exception):
    """The value is none that a request could be shown with."""


def sample(words: FormulaWords, model: Any, method: str, path: tuple[str, ...]) -> SampleRequest | None:
    """Return the request of a solver's model, or None if it has a value that cannot be shown.

    Args:
        path: the segments of the document's path, with "*" for those that the model has.
    """
    texts = _Texts(words, model)
    auth = words.member(words.name("request"), "auth")
    resource = words.name("resource")
    try:
        segments = tuple(
            texts.of(z3.Int(f"segment {place}")) if part == "*" else part for place, part in enumerate(path)
        )
        if any(not part or "/" in part or part in {".", ".."} for part in segments):
            return None
        uid, claims = None, {}
        if not texts.true(auth == Value.null):
            uid = texts.of(Value.text(words.member(auth, "uid")))
            claims = texts.fields(words.member(auth, "token"), passed_over=_OF_EVERY_TOKEN)
        document = None if texts.true(resource == Value.null) else texts.fields(words.member(resource, "data"))
        sent = None
        if method in {"create", "update"}:
            sent = texts.fields(words.member(words.member(words.name("request"), "resource"), "data"))
        return SampleRequest(method, uid, segments, claims, document, sent)
    except _Unshowable:
        return None


class _Texts:
    """Reads values from a model."""

    def __init__(self, words: FormulaWords, model: Any) -> None:
        self._words = words
        self._model = model
        self._known = {number: text for text, number in words.strings.items()}
        self._keys = list(words.strings)
        made = (f"{name}{number or ''}" for number in count() for name in _NAMES)
        self._unused = (name for name in made if name not in words.strings)

    def true(self, formula: Any) -> bool:
        """Return whether a formula is true."""
        return bool(z3.is_true(self._model.eval(formula, model_completion=True)))

    def of(self, number: Any) -> str:
        """Return the string with a number; one that nobody wrote gets a name of its own."""
        value = self._model.eval(number, model_completion=True).as_long()
        if value not in self._known:
            self._known[value] = next(self._unused)
        return self._known[value]

    def fields(self, owner: Any, passed_over: frozenset[str] = frozenset(), depth: int = 0) -> dict[str, Any]:
        """Return the fields of a map."""
        keys = [key for key in self._keys if key not in passed_over]
        there = [key for key in keys if self.true(has(owner, self._words.string(key)))]
        return {key: self._value(self._words.member(owner, key), depth) for key in there}

    def _value(self, value: Any, depth: int) -> Any:
        if self.true(value == Value.null):
            return None
        if self.true(Value.is_bool(value)):
            return self.true(Value.truth(value))
        if self.true(Value.is_int(value)):
            number = self._model.eval(Value.number(value), model_completion=True).as_long()
            if not -(2**63) <= number < 2**63:
                raise _Unshowable
            return number
        if self.true(Value.is_string(value)):
            return self.of(Value.text(value))
        kind = self._model.eval(Value.kind(value), model_completion=True).as_long()
        if kind == KINDS.index("map") and depth < _DEEPEST:
            return self.fields(value, depth=depth + 1)
        return []


def _fields(words: FormulaWords, owner: Any, data: Mapping[str, Any], keys: list[str]) -> Iterator[Any]:
    """Yield that a map has the fields of ``data``, and of ``keys`` no others."""
    for key in dict.fromkeys([*keys, *data]):
        there = has(owner, words.string(key))
        yield there if key in data else z3.Not(there)
        if key in data:
            yield from _is(words, words.member(owner, key), data[key], keys)


def _is(words: FormulaWords, value: Any, item: Any, keys: list[str]) -> Iterator[Any]:
    match item:
        case None:
            yield value == Value.null
        case bool():
            yield value == Value.bool(item)
        case int():
            yield value == Value.int(item)
        case str():
            yield value == words.string(item)
        case float():
            yield value == words.other("float", repr(item))
        case Mapping():
            yield from (Value.is_other(value), Value.kind(value) == KINDS.index("map"))
            yield from _fields(words, value, item, keys)
        case list():
            yield from (Value.is_other(value), Value.kind(value) == KINDS.index("list"))
