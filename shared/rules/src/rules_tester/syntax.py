"""The statements of a rules file, read strictly: what is not plainly a match, an allow or a function is refused.

Conditions are left as they are, as runs of tokens whose brackets balance; the emulator compiles them. Isolation rests
on what is read here, so nothing is guessed: a character, a path or a statement that is not known stops the reading.

Paths are read where a match has one and nowhere else. The compiler takes almost any character into a path, quotes too,
so that a string which seems to start in a path is none, and hides nothing that lies between its quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

__all__ = ["Allow", "Function", "Match", "NotRead", "Reader", "Token", "tokens"]

_TOKEN = re.compile(
    r"(?P<space>[ \t\n]+|//[^\n]*|/\*.*?\*/)"
    r"|(?P<path>(?:/(?:\{\s*[A-Za-z_][A-Za-z0-9_]*\s*(?:=\s*\*\*\s*)?\}|[A-Za-z0-9_-]+))+)"
    r"|(?P<text>'(?:\\[ -~]|[^'\\\n])*'|\"(?:\\[ -~]|[^\"\\\n])*\")"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<sign>&&|\|\||[=!<>]=|[-{}()\[\];:,.=!<>+*%?]|/(?=[ \t\n]))",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_KEYWORDS = {"allow", "match", "function", "service", "rules_version", "if"}
_NO_PATH = (
    "a path may stand only behind match, made of names (letters, digits, _ and -), {wildcards} and {wildcards=**}, as "
    "in 'match /notes/{note} {'; write a division with a space behind its /, and close a comment with */"
)
_MOST_NESTED = 20
_PAIRS = {"(": ")", "[": "]", "{": "}"}


class NotRead(Exception):
    """The text is not what it must be at ``offset``; the message says what to do."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """A name, number, string, path or sign; comments and spaces are none."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Allow:
    """An allow: its condition lies between ``begin`` (behind ``if``) and ``end``, where its semicolon is.

    ``begin`` is None where it has no condition.
    """

    start: int
    begin: int | None
    end: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function, by its name and how many parameters it has."""

    start: int
    name: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Match:
    """A match and its block, which ends with the brace at ``end``.

    ``path`` holds its segments without spaces: "notes", "{note}", "{rest=**}".
    """

    start: int
    path: tuple[str, ...]
    body: tuple[Match | Allow | Function, ...]
    end: int


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a rules file.

    Raises:
        NotRead: a character that rules do not have, or a string that does not end.
    """
    odd = _CONTROL.search(source)
    if odd:
        raise NotRead(odd.start(), f"the character U+{ord(odd.group()):04X} may not stand here; take it out")
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if not found and source[at] == "/":
            raise NotRead(at, _NO_PATH)
        if not found:
            raise NotRead(at, f"{source[at]!r} cannot be read here; is a string or a comment left open?")
        if found.lastgroup != "space":
            yield Token(str(found.lastgroup), found.group(), at, found.end())
        at = found.end()


class Reader:
    """Reads statements from left to right.

    Raises (every method):
        NotRead: the text is something else.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.tokens = tuple(tokens(source))
        self._at = 0
        self._depth = 0

    @property
    def done(self) -> bool:
        """Whether all is read."""
        return self._at == len(self.tokens)

    def offset(self) -> int:
        """Where the next token starts."""
        return len(self._source) if self.done else self.tokens[self._at].start

    def expect(self, *texts: str) -> None:
        """Read just these tokens."""
        for text in texts:
            if self._peek() != text:
                self._fail(f"{text!r} is expected here")
            self._at += 1

    def statements(self) -> tuple[Match | Allow | Function, ...]:
        """Every match, allow and function up to the block's closing brace, or the end."""
        found: list[Match | Allow | Function] = []
        while self._peek() not in {"", "}"}:
            found.append(self._statement())
        return tuple(found)

    def _statement(self) -> Match | Allow | Function:
        word = self._peek()
        if word == "match":
            return self._match()
        if word == "allow":
            return self._allow()
        if word != "function":
            self._fail(f"{word!r} is no statement: only match, allow and function may stand here")
        return self._function()

    def _match(self) -> Match:
        start = self.offset()
        path, brace = (*self.tokens[self._at + 1 : self._at + 3], None, None)[:2]
        if path is None or brace is None or path.kind != "path" or brace.text != "{":
            raise NotRead(start, _NO_PATH)
        # A comment at a path's edge might be taken for part of it.
        if self._source[path.end : brace.start].strip():
            raise NotRead(path.end, "no comment may stand between a path and its {; put it elsewhere")
        self._at += 3
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise NotRead(start, f"matches are nested more than {_MOST_NESTED} deep; write longer paths instead")
        body = self.statements()
        self._depth -= 1
        end = self.offset()
        if self._peek() != "}":
            raise NotRead(start, "the block of this match is not closed; a } is missing")
        self._at += 1
        segments = re.sub(r"\s", "", path.text).split("/")[1:]
        return Match(start, tuple(segments), body, end)

    def _allow(self) -> Allow:
        start = self.offset()
        self._at += 1
        while self._peek() not in {":", ";"}:
            if not re.fullmatch(r"[a-z]+|,", self._peek()) or self._peek() in _KEYWORDS:
                self._fail("write an allow as in 'allow get, list: if ...;'")
            self._at += 1
        begin = None
        if self._peek() == ":":
            self.expect(":", "if")
            begin = self.tokens[self._at - 1].end
            self._run({";"}, "this allow does not end; put a ; behind its condition")
        end = self.offset()
        self._at += 1
        return Allow(start, begin, end)

    def _function(self) -> Function:
        start = self.offset()
        self._at += 1
        name = self._peek()
        if self.done or self.tokens[self._at].kind != "name":
            self._fail("a function has a name")
        self._at += 1
        self.expect("(")
        first = self._at
        self._run({")"}, "the parameters of this function are not closed; a ) is missing")
        parameters = sum(token.kind == "name" for token in self.tokens[first : self._at])
        self.expect(")", "{")
        self._run({"}"}, "the block of this function is not closed; a } is missing")
        self._at += 1
        return Function(start, name, parameters)

    def _run(self, until: set[str], mend: str) -> None:
        """Read to a sign of ``until`` that lies in no bracket opened on the way."""
        start, open_brackets = self.offset(), list[str]()
        while open_brackets or self._peek() not in until:
            sign = self._peek()
            if len(sign) > 1 and sign.startswith("/"):
                self._fail(_NO_PATH)
            stray = sign in _PAIRS.values() and (not open_brackets or open_brackets.pop() != sign)
            cut = sign == ";" and bool(open_brackets)
            if self.done or stray or cut or sign in _KEYWORDS:
                raise NotRead(start if self.done else self.offset(), mend)
            if sign in _PAIRS:
                open_brackets.append(_PAIRS[sign])
            self._at += 1

    def _peek(self) -> str:
        return "" if self.done else self.tokens[self._at].text

    def _fail(self, message: str) -> NoReturn:
        raise NotRead(self.offset(), message)
