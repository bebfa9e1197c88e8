"""Cut a rules file into tokens, as the rules compiler does.

The compiler takes the longest token everywhere, whatever could follow. So ``a/b`` is a name and a segment of a path,
and ``/*`` opens a comment only if a ``*/`` follows somewhere; otherwise it is a segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["KEYWORDS", "RulesSyntaxError", "Token", "line_of", "tokens"]

_IN_PATH = r"(?:[A-Za-z0-9._~&'*+:@-]|%[0-9A-Fa-f]{2})+"
_ESCAPE = r"\\(?:['\"\\bfnrt]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[0-3][0-7]{2})"
_IN_STRING = r"[^\\\n\r\f\x08{}]"
_STRING = rf"'(?:{_IN_STRING.format(chr(39))}|{_ESCAPE})*'|\"(?:{_IN_STRING.format(chr(34))}|{_ESCAPE})*\""
_TOKEN = re.compile(
    r"(?P<space>[ \t\n\r\f]+|//[^\n]*|/\*.*?\*/)"
    rf"|(?P<segment>/{_IN_PATH}|/\({_IN_PATH}\))"
    r"|(?P<float>(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)"
    r"|(?P<int>0|[1-9][0-9]*)"
    rf"|(?P<bytes>[bB](?:{_STRING}))"
    rf"|(?P<string>{_STRING})"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_$]*|\$[A-Za-z0-9_$]+)"
    r"|(?P<sign>&&|\|\||[=!<>]=|\*\*|\+\+|--|[-+*/%!<>=?:.,;(){}\[\]@$])",
    re.DOTALL,
)
_SERVICE = re.compile(r"[ \t\n\r\f]*(?P<service>[A-Za-z0-9.-]+)")
KEYWORDS = frozenset(
    "allow break case continue default deny do each else extends false for function goto if import in is let match "  # noqa: SIM905
    "not null package return rules_version service switch then true var while".split()
)
"""Names that can't name a variable, a function or a wildcard. Many of them mean nothing, and are kept for later."""


class RulesSyntaxError(Exception):
    """The rules compiler refuses the text at ``offset``. The message says why, and what to write."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """A token with its place. Comments and spaces are no tokens.

    ``kind`` is "segment" (of a path, with its slash), "float", "int", "bytes", "string", "name", "keyword", "service"
    (the name of one), "sign" or "end".
    """

    kind: str
    text: str
    start: int
    end: int


def tokens(source: str) -> Iterator[Token]:
    """Yield the tokens of a rules file, and "end" after the last.

    Raises:
        RulesSyntaxError: the text has a character that rules do not have, or a string that does not end.
    """
    offset = 0
    while offset < len(source):
        token = _TOKEN.match(source, offset)
        if token is None:
            raise RulesSyntaxError(offset, _unreadable(source[offset]))
        kind, text, start = str(token.lastgroup), token.group(), offset
        offset = token.end()
        if kind == "name" and text in KEYWORDS:
            kind = "keyword"
        if kind != "space":
            yield Token(kind, text, start, offset)
        if kind == "keyword" and text == "service":
            name = _SERVICE.match(source, offset)
            if name is None:
                raise RulesSyntaxError(offset, "the name of the service must follow here, as in 'cloud.firestore'")
            yield Token("service", name["service"], name.start("service"), name.end())
            offset = name.end()
    yield Token("end", "", len(source), len(source))


def line_of(source: str, offset: int) -> int:
    """Return the line of ``offset``, counted from 1."""
    return source.count("\n", 0, offset) + 1


def _unreadable(character: str) -> str:
    if character in "'\"":
        return "this string is left open, or has an escape that rules do not have"
    if character == "\ufeff":
        return "the file begins with a byte order mark; save it as UTF-8 without one"
    if character.isprintable():
        return f"{character!r} is no character of the rules language; is a string or a comment left open?"
    return f"the character U+{ord(character):04X} may not stand here; take it out"
