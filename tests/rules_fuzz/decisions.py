"""Compare what our formulas say of requests, and proofs of changes, with what the emulator decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import z3
from firelaunch.testing.emulator import Emulator, unsigned_token
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rules_tester.client import Operation, RestClient, UnexpectedAnswer
from rules_tester.counterexamples import request_gained
from rules_tester.formulas import RuleFormulas
from rules_tester.mutants import Mutant
from rules_tester.parser import parse
from rules_tester.proofs import Prover
from rules_tester.sample_requests import SampleRequest
from rules_tester.semantics import FormulaWords, Untranslatable
from rules_tester.slices import Slices
from rules_tester.syntax import Allow, Expression, Ruleset

_FUNCTIONS = """
    function mine(document) { return request.auth.uid == document.a; }
    function signedIn() { return request.auth != null; }
    function either(x, y) { let both = x && y; return x || y || both; }
    function same(x) { let value = resource.data.a; return x == value; }
"""
_LEAVES = [
    "request.auth", "request.auth.uid", "request.auth.token.admin", "request.auth.token.get('role', 'none')", "note",
    "resource", "resource.data.a", "resource.data.b", "resource.data.m.k", "resource.data['a']", "resource.data",
    "request.resource.data.a", "request.resource.data.b", "resource.data.get('b', 1)", "request.method",
    "null", "true", "false", "1", "0", "'x'", "'ann'", "1.0", "[1]", "signedIn()", "resource.data.a.size()",
]  # fmt: skip
_TESTS = [
    "mine(resource.data)", "mine(request.resource.data)", "signedIn()", "same(1)", "same(request.auth.uid)",
    "'a' in resource.data", "'b' in request.resource.data", "resource.data.keys().hasAll(['a', 'b'])",
    "resource.data.keys().hasAny(['a', 'b'])", "request.auth.uid == note", "request.auth != null", "resource == null",
    "resource.data.a.matches('x.*')", "request.auth.token.admin", "request.auth.token.role == 'x'",
]  # fmt: skip
_TYPES = ["string", "bool", "int", "number", "float", "map", "list", "path", "null_or"]
_SIGNS = ["==", "!=", "==", "!=", "in", "<", "<=", ">", ">="]
_LEAF = st.sampled_from(_LEAVES)
_TEST = st.one_of(
    st.sampled_from(_TESTS),
    st.builds("{} {} {}".format, _LEAF, st.sampled_from(_SIGNS), _LEAF),
    st.builds("{} in [{}, {}]".format, _LEAF, _LEAF, _LEAF),
    st.builds("{} is {}".format, _LEAF, st.sampled_from(_TYPES[:-1])),
    _LEAF,
)
CONDITIONS = st.recursive(
    _TEST,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("either({}, {})".format, inner, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["==", "!="]), st.sampled_from(["true", "false"])),
    ),
    max_leaves=5,
)
_VALUES = st.sampled_from([None, True, False, 0, 1, 2, "x", "ann", "", 1.0, 2.5, [1], [], {"k": 1}, {}])
_FIELDS = st.dictionaries(st.sampled_from(["a", "b", "m"]), _VALUES, max_size=3)
_CLAIMS = st.dictionaries(st.sampled_from(["admin", "role"]), st.sampled_from([True, False, "x", 1]), max_size=2)
_EACH = 10
"""Conditions of one file, as a file takes the emulator long to compile."""
_REQUESTS = 16
"""Requests for each condition."""


@st.composite
def requests(draw: st.DrawFn) -> SampleRequest:
    """A request for a document of a collection that is named later."""
    method = draw(st.sampled_from(["get", "get", "create", "update", "delete", "list"]))
    uid = draw(st.sampled_from([None, "ann", "x"]))
    there = draw(_FIELDS) if method in {"update", "list"} or (method != "create" and draw(st.booleans())) else None
    sent = None
    if method == "create":
        sent = draw(_FIELDS)
    elif method == "update":
        sent = {**(there or {}), **draw(_FIELDS.filter(bool))}
    path = ("databases", "(default)", "documents", "c", draw(st.sampled_from(["ann", "x", "other"])))
    return SampleRequest(method, uid, path, draw(_CLAIMS) if uid else {}, there, sent)


@dataclass
class Decisions:
    """The requests and proofs that were compared, and those that were wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    disagreements: list[dict[str, str]] = field(default_factory=list)


def file(conditions: Sequence[str]) -> str:
    """Rules with a collection for each condition."""
    blocks = "\n".join(
        f"match /c{number}/{{note}} {{ allow get, list, create, update, delete: if {condition}; }}"
        for number, condition in enumerate(conditions)
    )
    root = "match /databases/{database}/documents"
    return f"rules_version = '2';\nservice cloud.firestore {{ {root} {{ {_FUNCTIONS}\n{blocks} }} }}"


def decide(emulator: Emulator, project: str, count: int) -> Decisions:
    """Compare at least ``count`` random requests, but for those on which the emulator crashes."""
    found = Decisions()
    client = RestClient(emulator.host, project)
    asked = st.lists(requests(), min_size=_REQUESTS, max_size=_REQUESTS)

    @settings(
        max_examples=-(-count // (_EACH * _REQUESTS)),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(CONDITIONS, min_size=_EACH, max_size=_EACH), asked, st.randoms(use_true_random=False))
    def go(conditions: list[str], samples: list[SampleRequest], random: Any) -> None:
        changed = [_changed(condition, random) for condition in conditions]
        emulator.load_rules(project, file([*conditions, *changed]))
        for number, (condition, other) in enumerate(zip(conditions, changed, strict=True)):
            proved = _is_proved(condition, other)
            found.counts["proofs"] += proved
            if not proved:
                _show(found, client, project, number, condition, other)
            for sample in samples:
                decided = _decided(client, project, sample, f"c{number}")
                if decided is None:
                    continue
                found.counts["requests"] += 1
                _compare(found, condition, sample, decided)
                if proved and _decided(client, project, sample, f"c{number + _EACH}") is not decided:
                    found.disagreements.append({"condition": condition, "proved as": other, "request": repr(sample)})

    go()
    client.close()
    return found


def _changed(condition: str, random: Any) -> str:
    """A condition of which a part is another, or is left out."""
    source = file([condition])
    start = source.index(f"if {condition};") + 3
    allow = next(item for item in parse(source).statements() if isinstance(item, Allow))
    assert allow.condition is not None
    nodes = [node for node in allow.condition.walk() if node.kind != "list"]
    node: Expression = random.choice(nodes)
    texts = [source[child.start : child.end] for child in node.children] + ["true", "false", random.choice(_TESTS)]
    new = f"{condition[: node.start - start]}({random.choice(texts)}){condition[node.end - start :]}"
    try:
        parse(file([new]))
    except Exception:
        return condition
    return new


def _is_proved(condition: str, other: str) -> bool:
    if condition == other:
        return False
    source = file([condition])
    ruleset = parse(source)
    start = source.index(f"if {condition};") + 3
    mutant = Mutant("any", start, start + len(condition), other)
    return Prover(source, ruleset, Slices(source, ruleset, [])).changes_nothing(mutant)


def _show(found: Decisions, client: RestClient, project: str, number: int, condition: str, other: str) -> None:
    """Have the emulator decide the requests that are said to tell two conditions apart."""
    before, after = (RuleFormulas(parse(file([text]))) for text in (condition, other))
    for method in ("get", "create", "update", "delete"):
        sample = request_gained(before, after, ("databases", "(default)", "documents", "c0", "*"), method)
        if sample is not None:
            decided = [_decided(client, project, sample, f"c{place}") for place in (number, number + _EACH)]
            found.counts["examples"] += 1
            if None not in decided and decided != [False, True]:
                found.disagreements.append({"condition": condition, "shown as": other, "request": repr(sample)})


def _decided(client: RestClient, project: str, sample: SampleRequest, collection: str) -> bool | None:
    """The emulator's decision. None if it crashes, as it does on some comparisons with a user."""
    path = f"{collection}/{sample.path[-1]}"
    client.put({path: sample.document})
    token = None if sample.uid is None else unsigned_token(project, {"sub": sample.uid, **sample.claims})
    if sample.method == "list":
        operation = Operation("list", collection, limit=10)
    else:
        kind: Any = "set" if sample.method == "update" else sample.method  # an update that sends all fields
        operation = Operation(kind, path, dict(sample.sent or {}))
    try:
        return client.allowed(operation, token)
    except UnexpectedAnswer:
        return None
    finally:
        client.put({path: None})


def _compare(found: Decisions, condition: str, sample: SampleRequest, decided: bool) -> None:
    ruleset = parse(file([condition]))
    possible = _possible(ruleset, sample)
    found.counts["told"] += len(possible) == 1
    if decided not in possible:
        found.disagreements.append(
            {"condition": condition, "request": repr(sample), "emulator": str(decided), "ours": str(possible)}
        )


def _possible(ruleset: Ruleset, sample: SampleRequest) -> set[bool]:
    """The decisions that our formula leaves open."""
    allow = next(item for item in ruleset.statements() if isinstance(item, Allow))
    words = FormulaWords()
    try:
        formula = RuleFormulas(ruleset).of(words, allow, sample.method).allowed
    except Untranslatable:
        return {True, False}
    solver = z3.Solver()
    solver.add(*words.facts(sample.method), *sample.facts(words))
    return {
        decision for decision, asked in ((True, formula), (False, z3.Not(formula))) if solver.check(asked) != z3.unsat
    }
