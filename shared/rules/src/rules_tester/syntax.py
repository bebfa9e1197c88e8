"""Parse the statements of a rules file strictly, and refuse everything but matches, allows and functions.

Conditions stay unparsed, as runs of tokens with balanced brackets; the emulator compiles them. The isolation of apps
depends on this parser, so it never guesses: an unknown character, path or statement is an error.

Paths are accepted only after ``match``. The compiler accepts almost any character in a path, also quotes, so a quote
in a path begins no string, and the text between such quotes is not hidden.
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
    """The text is not valid at ``offset``. The message says what to do."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """A name, number, string, path or sign. Comments and spaces are no tokens."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Allow:
    """An allow. Its condition is between ``begin`` (after ``if``) and ``end``, the offset of its semicolon.

    ``begin`` is None if there is no condition.
    """

    start: int
    begin: int | None
    end: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function with its name and the number of its parameters."""

    start: int
    name: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Match:
    """A match with its block, which ends with the brace at ``end``.

    ``path`` has the segments without spaces: "notes", "{note}", "{rest=**}".
    """

    start: int
    path: tuple[str, ...]
    body: tuple[Match | Allow | Function, ...]
    end: int


def tokens(source: str) -> Iterator[Token]:
    """Yield the tokens of a rules file.

    Raises:
        NotRead: the text has a character that rules do not have, or a string that does not end.
    """
    control = _CONTROL.search(source)
    if control:
        raise NotRead(control.start(), f"the character U+{ord(control.group()):04X} may not stand here; take it out")
    offset = 0
    while offset < len(source):
        token = _TOKEN.match(source, offset)
        if not token and source[offset] == "/":
            raise NotRead(offset, _NO_PATH)
        if not token:
            raise NotRead(offset, f"{source[offset]!r} cannot be read here; is a string or a comment left open?")
        if token.lastgroup != "space":
            yield Token(str(token.lastgroup), token.group(), offset, token.end())
        offset = token.end()


class Reader:
    """A parser that reads statements from left to right.

    Raises (every method):
        NotRead: the text is not valid.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.tokens = tuple(tokens(source))
        self._at = 0
        self._depth = 0

    @property
    def done(self) -> bool:
        """Whether all tokens are read."""
        return self._at == len(self.tokens)

    def offset(self) -> int:
        """Return the offset of the next token."""
        return len(self._source) if self.done else self.tokens[self._at].start

    def expect(self, *texts: str) -> None:
        """Read exactly these tokens."""
        for text in texts:
            if self._peek() != text:
                self._fail(f"{text!r} is expected here")
            self._at += 1

    def statements(self) -> tuple[Match | Allow | Function, ...]:
        """Read every match, allow and function up to the block's closing brace, or to the end."""
        statements: list[Match | Allow | Function] = []
        while self._peek() not in {"", "}"}:
            statements.append(self._statement())
        return tuple(statements)

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
        """Read up to a sign of ``until`` that is outside of all brackets opened on the way."""
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
