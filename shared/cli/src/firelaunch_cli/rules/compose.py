"""Compose one rules file from the base and the apps' fragments, and record the origin of every line."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from firelaunch.store.reserved_paths import Pattern
from rules_tester.parser import parse, parse_statements
from rules_tester.syntax import Match
from rules_tester.tokens import RulesSyntaxError, line_of

from .compare import blocks
from .fragment import MARKER, Fragment, Problem, bound, functions, reached
from .paths import pattern

__all__ = ["Composed", "CompositionRefused", "Kept", "compile_problems", "compose", "keep_others"]

_MOST_BYTES = 256 * 1024
"""Most bytes of a ruleset's text (https://firebase.google.com/docs/firestore/quotas#security_rules)."""
_SERVICE = "cloud.firestore"
_GUARDS = {"isMember": 1, "isSelf": 2}
_PLACED = re.compile(r"^L(\d+):\d+ (.*)$", re.MULTILINE)


class CompositionRefused(Exception):
    """The files cannot be composed. The message has a line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Loads(Protocol):
    """A compiler of rules, such as an emulator."""

    @property
    def refusal(self) -> type[Exception]:
        """The exception that ``load_rules`` raises if rules do not compile."""

    def load_rules(self, project: str, source: str) -> None:
        """Compile rules. Raises ``refusal`` if they do not compile."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The composed rules.

    Attributes:
        apps: the apps that have a block.
        origins: for each line, its original file and line.
    """

    text: str
    apps: tuple[str, ...]
    origins: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A rules file with the live blocks of apps that are not here.

    Attributes:
        apps: whose blocks were taken over.
    """

    text: str
    apps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Base:
    end: int
    helpers: frozenset[str]
    patterns: tuple[Pattern, ...]


def compose(base: str, fragments: Sequence[Fragment], base_file: str = "firestore.rules") -> Composed:
    """Return the base with a block for each app's fragment, in the order of the apps' ids.

    Args:
        base: the text of a complete rules file, which declares ``isMember(app)`` and ``isSelf(app, uid)``.
        base_file: the base's file name, for messages.

    Raises:
        CompositionRefused: a fragment reaches beyond its app, or a file cannot be read.
    """
    base = base.replace("\r\n", "\n")
    try:
        parsed_base = _read_base(base)
    except RulesSyntaxError as problem:
        raise CompositionRefused([Problem(base_file, line_of(base, problem.offset), str(problem))]) from None
    blocks: list[tuple[Fragment, str]] = []
    problems: list[Problem] = []
    for fragment in sorted(fragments, key=lambda item: item.app):
        plain = Fragment(fragment.app, fragment.file, fragment.text.replace("\r\n", "\n"))
        text, fragment_problems = bound(plain, parsed_base.helpers, parsed_base.patterns)
        problems += fragment_problems
        if text:
            blocks.append((plain, text))
    if problems:
        raise CompositionRefused(problems)
    composed = _joined(base, base_file, parsed_base.end, blocks)
    _check_blocks(composed, base_file)
    if len(composed.text.encode()) > _MOST_BYTES:
        size = f"the built rules are larger than the {_MOST_BYTES} bytes that Firebase takes; shorten the fragments"
        raise CompositionRefused([Problem(base_file, 1, size)])
    return composed


def keep_others(new: str, live: str | None, here: Collection[str]) -> Kept:
    """Add to composed rules the live blocks of apps whose folders are in another clone, or in another git.

    The outcome is what a clone with all apps would compose. A block is taken over as it is, if it is nothing but the
    one match of its app that :func:`compose` writes. Any other is left out, and a comparison names it as removed.

    Args:
        new: a text of :func:`compose`.
        live: the rules in force; None where there are none.
        here: the apps whose folders are here, and those whose live rules may go.
    """
    there = blocks((live or "").replace("\r\n", "\n"))
    others = {app: text for app, text in there.items() if app not in here and _is_one_match(app, text)}
    if not others:
        return Kept(new, ())
    own = blocks(new)
    if own:
        begin = min(new.index(block) for block in own.values())
        rest = new[max(new.index(block) + len(block) for block in own.values()) :]
    else:
        begin = _read_base(new).end
        rest = f"\n  {new[begin:]}"
    joined = "\n\n".join(block for _, block in sorted({**others, **own}.items()))
    return Kept(f"{new[:begin].rstrip()}\n\n{joined}{rest}", tuple(sorted(others)))


def _is_one_match(app: str, block: str) -> bool:
    try:
        found = parse_statements(block)
    except RulesSyntaxError:
        return False
    if len(found) != 1 or not isinstance(found[0], Match):
        return False
    # The compiler takes "/*" for a name only as long as no comment ends behind it, which is so here and not elsewhere.
    return found[0].path == ("apps", app) and "/*" not in block


def compile_problems(composed: Composed, emulator: Loads) -> list[Problem]:
    """Return the errors of a real compiler, each at its original file and line."""
    try:
        emulator.load_rules(f"demo-{secrets.token_hex(8)}", composed.text)
    except emulator.refusal as error:
        errors = [(int(line), text) for line, text in _PLACED.findall(str(error))]
        if not errors:
            return [Problem(*composed.origins[0], str(error))]
        last = len(composed.origins)
        return [Problem(*composed.origins[min(line, last) - 1], f"does not compile: {text}") for line, text in errors]
    return []


def _check_blocks(composed: Composed, base_file: str) -> None:
    """Parse the composed text, and see that each app's block is one match: what was checked apart holds together."""
    try:
        documents = _documents(composed.text)
    except RulesSyntaxError as error:
        place = composed.origins[min(line_of(composed.text, error.offset), len(composed.origins)) - 1]
        raise CompositionRefused([Problem(*place, str(error))]) from None
    marks = {mark[2]: mark.end() + 1 for mark in MARKER.finditer(composed.text) if mark[1] == "begin"}
    ends = {mark[2]: mark.start() for mark in MARKER.finditer(composed.text) if mark[1] == "end"}
    for app in composed.apps:
        inside = [item for item in documents.body if marks[app] <= item.start and item.end <= ends[app]]
        across = [item for item in documents.body if item.start < ends[app] and marks[app] < item.end]
        if len(inside) != 1 or inside != across or getattr(inside[0], "path", ()) != ("apps", app):
            raise CompositionRefused([Problem(base_file, 1, f"the rules of {app} do not stay within their block")])


def _documents(text: str) -> Match:
    """Return the one match of all documents of a whole file."""
    ruleset = parse(text)
    if ruleset.version != "2":
        raise RulesSyntaxError(0, "rules_version = '2'; is expected here")
    if len(ruleset.body) != 1 or ruleset.services[0:1] != ruleset.body or ruleset.services[0].name != _SERVICE:
        last = ruleset.body[-1]
        raise RulesSyntaxError(last.start, f"nothing may stand beside the one service {_SERVICE}")
    documents = [item for item in ruleset.services[0].body if isinstance(item, Match)]
    if len(documents) != 1 or documents[0].path != ("databases", "{database}", "documents"):
        raise RulesSyntaxError(0, "the service's block holds one match, of /databases/{database}/documents; make it so")
    return documents[0]


@lru_cache(maxsize=1)
def _read_base(text: str) -> _Base:
    mark = MARKER.search(text)
    if mark:
        raise RulesSyntaxError(
            mark.start(), "this is a built file, with apps' blocks in it; give the base that it was built from"
        )
    documents = _documents(text)
    outer = parse(text).services[0].body
    body = documents.body
    open_to_fragments = {
        item.name: len(item.parameters) for item in functions([i for i in body if not isinstance(i, Match)])
    }
    for name, parameters in _GUARDS.items():
        if open_to_fragments.get(name) != parameters:
            raise RulesSyntaxError(
                documents.start, f"fragments are bound by {name}, with {parameters} parameters; declare it here"
            )
    patterns = dict.fromkeys(pattern(item.path) for item in reached(body))
    names = frozenset(function.name for function in functions(outer))
    return _Base(documents.end - 1, names, tuple(patterns))


def _joined(base: str, base_file: str, end: int, blocks: Sequence[tuple[Fragment, str]]) -> Composed:
    """Join the base up to ``end``, where its match of all documents closes, the blocks, and the rest of the base."""
    if not blocks:
        count = base.count("\n") + 1
        return Composed(base, (), tuple((base_file, line) for line in range(1, count + 1)))
    head = base[:end].rstrip()
    rest_line = line_of(base, end)
    lines = head.split("\n")
    origins = [(base_file, number) for number in range(1, len(lines) + 1)]
    for fragment, text in blocks:
        body = text.rstrip().split("\n")
        lines += ["", f"    // begin app {fragment.app}", f"    match /apps/{fragment.app} {{"]
        lines += [f"      {line}" if line.strip() else "" for line in body]
        lines += ["    }", f"    // end app {fragment.app}"]
        numbers = [1, 1, 1, *range(1, len(body) + 1), len(body), len(body)]
        origins += [(fragment.file, number) for number in numbers]
    rest = f"  {base[end:]}".split("\n")
    origins += [(base_file, rest_line + number) for number in range(len(rest))]
    return Composed("\n".join([*lines, *rest]), tuple(fragment.app for fragment, _ in blocks), tuple(origins))
