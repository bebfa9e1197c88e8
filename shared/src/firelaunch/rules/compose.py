"""One rules file out of the base and the apps' fragments, in which every line is known by where it came from."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..testing.emulator import RulesError
from .compare import blocks
from .fragment import MARKER, Fragment, Problem, bound, functions, reached
from .paths import Pattern, pattern
from .source import line_of
from .syntax import Match, NotRead, Reader

__all__ = ["Composed", "Kept", "Refused", "compile_problems", "compose", "keep_others"]

_MOST_BYTES = 256 * 1024
"""Of a ruleset's text (https://firebase.google.com/docs/firestore/quotas#security_rules)."""
_HEADER = ("rules_version", "=", "'2'", ";", "service", "cloud", ".", "firestore", "{")
_GUARDS = {"isMember": 1, "isSelf": 2}
_PLACED = re.compile(r"^L(\d+):\d+ (.*)$", re.MULTILINE)


class Refused(Exception):
    """The files cannot be composed; the message has a line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Loads(Protocol):
    """What compiles rules: an emulator."""

    def load_rules(self, project: str, source: str) -> None:
        """Raises RulesError where they do not compile."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The built text.

    Attributes:
        apps: whose blocks it has.
        origins: for each line, the file and line it came from.
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
    """The base with each app's fragment in a block of its own, in the order of the apps' names.

    Args:
        base: the text of a whole rules file, which declares ``isMember(app)`` and ``isSelf(app, uid)``.
        base_file: its name, for messages.

    Raises:
        Refused: a fragment reaches what is not its own, or a file cannot be read.
    """
    base = base.replace("\r\n", "\n")
    try:
        read = _read_base(base)
    except NotRead as problem:
        raise Refused([Problem(base_file, line_of(base, problem.offset), str(problem))]) from None
    blocks: list[tuple[Fragment, str]] = []
    problems: list[Problem] = []
    for fragment in sorted(fragments, key=lambda item: item.app):
        plain = Fragment(fragment.app, fragment.file, fragment.text.replace("\r\n", "\n"))
        text, wrong = bound(plain, read.helpers, read.patterns)
        problems += wrong
        if text:
            blocks.append((plain, text))
    if problems:
        raise Refused(problems)
    composed = _joined(base, base_file, read.end, blocks)
    if len(composed.text.encode()) > _MOST_BYTES:
        size = f"the built rules are larger than the {_MOST_BYTES} bytes that Firebase takes; shorten the fragments"
        raise Refused([Problem(base_file, 1, size)])
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
        reader = Reader(block)
        found = reader.statements()
    except NotRead:
        return False
    return reader.done and len(found) == 1 and isinstance(found[0], Match) and found[0].path == ("apps", app)


def compile_problems(composed: Composed, emulator: Loads) -> list[Problem]:
    """What a real compiler has to say against the built text, by the lines of the files it was built from."""
    try:
        emulator.load_rules(f"demo-{secrets.token_hex(8)}", composed.text)
    except RulesError as error:
        found = [(int(line), said) for line, said in _PLACED.findall(str(error))]
        if not found:
            return [Problem(*composed.origins[0], str(error))]
        last = len(composed.origins)
        return [Problem(*composed.origins[min(line, last) - 1], f"does not compile: {said}") for line, said in found]
    return []


def _read_base(text: str) -> _Base:
    mark = MARKER.search(text)
    if mark:
        raise NotRead(
            mark.start(), "this is a built file, with apps' blocks in it; give the base that it was built from"
        )
    reader = Reader(text)
    reader.expect(*_HEADER)
    outer = reader.statements()
    reader.expect("}")
    if not reader.done:
        raise NotRead(reader.offset(), "nothing may follow the service's block")
    documents = [item for item in outer if isinstance(item, Match)]
    if len(documents) != 1 or documents[0].path != ("databases", "{database}", "documents"):
        raise NotRead(0, "the service's block holds one match, of /databases/{database}/documents; make it so")
    body = documents[0].body
    open_to_fragments = {
        item.name: item.parameters for item in functions([i for i in body if not isinstance(i, Match)])
    }
    for name, parameters in _GUARDS.items():
        if open_to_fragments.get(name) != parameters:
            raise NotRead(
                documents[0].start, f"fragments are bound by {name}, with {parameters} parameters; declare it here"
            )
    patterns = dict.fromkeys(pattern(item.path) for item in reached(body))
    names = frozenset(function.name for function in functions(outer))
    return _Base(documents[0].end, names, tuple(patterns))


def _joined(base: str, base_file: str, end: int, blocks: Sequence[tuple[Fragment, str]]) -> Composed:
    """The base up to ``end``, where its match of all documents closes, then the blocks, then the rest."""
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
