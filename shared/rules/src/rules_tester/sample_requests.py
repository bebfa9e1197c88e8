"""Single requests in the words of :mod:`.semantics`: what a formula says of one, and one that a formula asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import z3

from .semantics import KINDS, FormulaWords, Value, has

__all__ = ["SampleRequest"]

_OF_EVERY_TOKEN = frozenset({"iss", "aud", "iat", "exp", "auth_time", "user_id", "sub", "firebase"})
"""Claims that tokens have without being asked for. Nothing is said of them."""


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
        facts.append((resource == Value.null) == z3.BoolVal(self.document is None))
        if self.document is not None:
            facts += _fields(words, words.member(resource, "data"), self.document, keys)
        if self.sent is not None:
            facts += _fields(words, words.member(words.member(request, "resource"), "data"), self.sent, keys)
        return facts


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
