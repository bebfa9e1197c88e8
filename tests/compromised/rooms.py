"""More attempts: on the index, on jobs, on kept answers; after another app's, and after other users' of one's own app.

What a job's handler is handed is bound to one user, so there the other users of the app are out of reach too.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from firelaunch.jobs import Delivery, Jobs, Kind, Prepared
from firelaunch.llm.cache_key import answer_key
from firelaunch.metering.model_calls import ModelCalls
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.scope import Scope
from firelaunch.services.bundle import Services
from firelaunch.store.base import Create, Query, Set, Update
from pydantic import BaseModel

from compromised.attempts import SECRET, ForgedScope, ShiftyList, TwoFaced

__all__ = ["ADA", "ASKED", "BETA", "BOB", "CACHE", "JOBS", "KIND", "VECTOR", "VECTORS", "Note"]

ADA, BOB, BETA = Scope("alpha", "ada"), Scope("alpha", "bob"), Scope("beta", "ada")
"""Who attacks, another user of the same app, and the same user in another app."""

VECTOR = np.array([1.0, 0.5, 0.25], np.float32)
ASKED: list[Any] = [{"role": "user", "content": "What is beta's word?"}]
_MINE = Entry("mine", "d1", "Mine", VECTOR)


class Note(BaseModel):
    """A payload."""

    text: str = ""


KIND = Kind("note", Note)


class Elsewhere(ForgedScope):
    """Has alpha's ids when it is asked, and another user's when it is compared."""

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


def _set(scope: Scope, **fields: Any) -> Scope:
    for name, value in fields.items():
        object.__setattr__(scope, name, value)
    return scope


SCOPES: Mapping[str, Callable[[], Any]] = {
    "another app": lambda: BETA,
    "another app's library": lambda: Scope("beta"),
    "another user": lambda: BOB,
    "a subclass": lambda: ForgedScope("alpha", "ada"),
    "a subclass that is equal to all": lambda: Elsewhere("alpha", "bob"),
    "an app that was set": lambda: _set(Scope("alpha", "ada"), app_id="beta"),
    "a user that was set": lambda: _set(Scope("alpha", "ada"), uid="bob"),
    "a path for a user": lambda: _set(Scope("alpha", "ada"), uid="../../beta/users/ada"),
    "a user that lies": lambda: _set(Scope("alpha", "ada"), uid=TwoFaced("bob")),
}


class ShiftyEntry(Entry):
    """Its id is harmless when it is first looked at."""

    def __getattribute__(self, name: str) -> Any:
        return "x/../../../beta" if name == "id" else super().__getattribute__(name)


class ShiftyWhere(dict[str, Sequence[str]]):
    """Filters by something else each time."""

    def items(self) -> Any:
        return {"kind": ["a"]}.items() if not self.pop("looked", None) else super().items()


def _on_scope(scope: Callable[[], Any]) -> dict[str, Callable[[ScopedIndex], Any]]:
    """Everything an index does in a scope."""
    return {
        "nearest": lambda index: index.nearest(scope(), "v1", VECTOR, 10),
        "matching": lambda index: index.matching(scope(), "v1", SECRET, 10),
        "read": lambda index: index.read(scope(), "v1", "d1"),
        "count": lambda index: index.count(scope(), "v1") and SECRET,
        "upsert": lambda index: index.upsert(scope(), "v1", [Entry("c1", "d1", "alpha's", VECTOR)]),
        "delete": lambda index: index.delete(scope()),
        "delete a document": lambda index: index.delete(scope(), "d1", version="v1"),
        "within": lambda index: index.within(scope()).read(scope(), "v1", "d1"),
    }


VECTORS: dict[str, Callable[[ScopedIndex], Any]] = {
    f"{what} of {name}": attempt for name, scope in SCOPES.items() for what, attempt in _on_scope(scope).items()
} | {
    "another version": lambda index: index.nearest(ADA, "v2", VECTOR, 10),
    "a version that is a path": lambda index: index.read(ADA, "../../beta/v1", "d1"),
    "a version that lies": lambda index: index.read(ADA, TwoFaced("v1"), "d1"),
    "a document that is a path": lambda index: index.delete(ADA, "../../../beta/users/ada/chunks/v1.c1"),
    "an entry whose id is a path": lambda index: index.upsert(ADA, "v1", [Entry("../c1", "d1", "x", VECTOR)]),
    "an entry that changes": lambda index: index.upsert(ADA, "v1", [ShiftyEntry("c1", "d1", "x", VECTOR)]),
    "entries that change": lambda index: index.upsert(ADA, "v1", ShiftyList([_MINE], ShiftyEntry("c1", "d1", "x"))),
    "a tag that is the app": lambda index: index.upsert(ADA, "v1", [Entry("c", "d", "x", VECTOR, {"app": "beta"})]),
    "a filter on the app": lambda index: index.nearest(ADA, "v1", VECTOR, 10, {"app": ["beta"]}),
    "a filter on the owner": lambda index: index.nearest(ADA, "v1", VECTOR, 10, {"owner": ["user:bob"]}),
    "a filter that is SQL": lambda index: index.nearest(ADA, "v1", VECTOR, 10, {"a') OR 1=1 --": ["x"]}),
    "a filter that lies": lambda index: index.nearest(ADA, "v1", VECTOR, 10, {TwoFaced("owner"): ["user:bob"]}),
    "a filter that changes": lambda index: index.nearest(ADA, "v1", VECTOR, 10, ShiftyWhere(owner=["user:bob"])),
    "a query that is SQL": lambda index: index.matching(ADA, "v1", 'text:* OR "beta" NEAR owner', 10),
    "a wall around the wall": lambda index: ScopedIndex(index, "beta").read(BETA, "v1", "d1"),  # type: ignore[arg-type]
    "the app's whole version": lambda index: index.drop("v1"),
}


def _job(path: str, **fields: Any) -> Create:
    return Create(path, {"kind": "note", "uid": "ada", "state": "queued", "payload": '{"text": "alpha\'s"}', **fields})


def _by_scope(scope: Callable[[], Any]) -> dict[str, Callable[[Services], Any]]:
    """Everything that jobs and models do for a scope."""
    return {
        "get": lambda s: s.jobs.get(scope(), "job1"),
        "list": lambda s: s.jobs.mine(scope(), 10, None).items,
        "cancel": lambda s: s.jobs.cancel(scope(), "job1"),
        "enqueue": lambda s: s.jobs.enqueue(scope(), KIND, Note(text="alpha's")) and SECRET,
        "take by its key": lambda s: s.jobs.enqueue(scope(), KIND, Note(), key="key-1"),
        "bind to": lambda s: s.within(scope()).jobs.get(scope(), "job1"),
        "extract for": lambda s: s.llm.extract(Note, "alpha's", scope=scope()) and SECRET,
    }


JOBS: dict[str, Callable[[Services], Any]] = {
    f"{what} {name}": attempt for name, scope in SCOPES.items() for what, attempt in _by_scope(scope).items()
} | {
    "an id that is a path": lambda s: s.jobs.get(ADA, "../../beta/jobs/job1"),
    "an id that lies": lambda s: s.jobs.get(ADA, TwoFaced("job1")),
    "any job": lambda s: s.jobs.find("job1"),
    "the dead": lambda s: s.jobs.dead(10, None).items,
    "drive on": lambda s: s.jobs.redrive("job1"),
    "those that are due": lambda s: s.jobs.due(10) and SECRET,
    "a sweep": lambda s: s.jobs.sweep() and SECRET,
    "the jobs' store": lambda s: s.jobs.store.query(Query("apps/alpha/jobs")),
    "the models' store": lambda s: s.llm.store.query(Query("apps/alpha/jobs")),  # type: ignore[attr-defined]
    "the meter's store": lambda s: s.metering.store.get("apps/alpha/users/bob"),
    "jobs made anew": lambda s: Jobs(s.store, s.jobs.backend, s.jobs.policy, s.clock).get(BOB, "job1"),
    "jobs of a copy": lambda s: dataclasses.replace(s, jobs=copy.copy(s.jobs)).jobs.find("job1"),
    "calls made anew": lambda s: (
        ModelCalls(s.settings, s.store, s.metering, s.gateway, s.prompts, s.clock, s.admission).extract(
            Note, "alpha's", scope=BOB
        )
        and SECRET
    ),
    "a job of beta's": lambda s: s.store.commit([_job("apps/beta/jobs/forged")]),
    "a job of bob's": lambda s: s.store.commit([_job("apps/alpha/jobs/forged", uid="bob")]),
    "a job whose user changes": lambda s: s.store.commit([Update("apps/alpha/jobs/job1", {"uid": "ada"})]),
    "a prepared job of beta's": lambda s: s.jobs.send(
        Prepared("job1", _job("apps/beta/jobs/job1"), Delivery("job1", "note", s.clock(), None, 1.0))
    ),
    "writes that are others when they are looked at again": lambda s: s.store.commit(
        s.store.check(ShiftyList([Set("apps/alpha/users/ada", {})], Set("apps/alpha/users/bob", {"plan": "alpha's"})))
    ),
}


def _answer(services: Services, owner: Any, reuse: Any = "owner") -> str:
    meter = _Free()
    llm = services.gateway.answering(meter, "gpt-5.4-mini", 5.0, streamed=False, owner=owner)
    return "".join(chunk.text for chunk in llm.stream(ASKED, max_output_tokens=10, reuse=reuse))


class _Free:
    def cover(self, micro_usd: int) -> None: ...
    def release(self, micro_usd: int) -> None: ...
    def spend(self, *_: Any) -> None: ...
    def reuse(self, model: str) -> None: ...


def _by_key(services: Services, scope: Scope) -> list[Any]:
    key = answer_key(scope, "openai", "gpt-5.4-mini", ASKED, 10, None, None)
    cache: Any = services.gateway.cache
    calls = {"hit": lambda: None, "tick": lambda: None}
    keys = (key, f"{scope.root}\n{key}")
    return [chunk.text for one in keys for chunk in cache.answer(one, lambda: iter(()), **calls)]


CACHE: dict[str, Callable[[Services], Any]] = {
    **{f"the question of {name}": lambda s, scope=scope: _answer(s, scope()) for name, scope in SCOPES.items()},  # type: ignore[misc]
    "one's own question": lambda s: _answer(s, ADA),
    "the question, shared in the app": lambda s: _answer(s, ADA, "app"),
    "the key of beta's": lambda s: _by_key(s, BETA),
    "the key of bob's": lambda s: _by_key(s, BOB),
    "the cache's other owner": lambda s: list(
        s.gateway.cache.of(BOB).answer("k", lambda: iter(()), hit=lambda: None, tick=lambda: None)  # type: ignore[union-attr]
    ),
    "a message that ends the key": lambda s: _answer(s, _set(Scope("alpha", "ada"), uid='ada", "openai')),
}
