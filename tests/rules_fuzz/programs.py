"""Texts that are rules or nearly so: programs from a grammar with strange leaves, and changed rules files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent.parent
_OPERATORS = ["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "in", "&&", "==", "||", "!="]
_LEAVES = [
    "a",
    "b.c",
    "request.auth.uid",
    "resource.data",
    "true",
    "false",
    "null",
    "1",
    "-1",
    "2.5",
    ".5",
    "1.",
    "01",
    "1e3",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "'x'",
    '"y"',
    "'it\\'s'",
    "'\\u00e4'",
    "'\\q'",
    "'\\012'",
    "'\\8'",
    "'ä'",
    "b'aa'",
    "b'\\u0041'",
    "r'aa'",
    "''",
    "'{ match'",
    "'//'",
    "[]",
    "{}",
    "a.match",
    "a.allow",
    "a.if",
    "a.function",
    "a.in",
    "a.service",
    "match",
    "if",
    "in",
    "let",
    "default",
    "math",
    "math.abs(1)",
    "duration",
    "/a/b",
    "/a/$(b)",
    "/a/$(b.c)/{d}",
    "/{a}/{a}",
    "/{a=**}/b",
    "/databases/$(database)/documents/x/$(y)",
    "/(default)/x",
    "/it's",
    "$x",
    "$",
    "f()",
    "f(1, 2,)",
    "g(a)",
    "get(/a/$(b)).data",
    "exists(/a/b)",
    "a()()",
    "--a",
    "!a",
    "- -a",
    "ä",
    "a@b",
    "\u00a0a",
]
_SPACES = [""] * 30 + [" "] * 90 + ["\n", "\t", " /* c */ ", " // c\n", "/**/", "\r\n", "\f"]
_TYPES = ["string", "bool", "int", "map", "timestamp", "path", "map_diff", "number", "null", "foo"]
_SEGMENTS = [
    "/a",
    "/a",
    "/notes",
    "/{b}",
    "/{c}",
    "/{d=**}",
    "/{e=*}",
    "/it's",
    "/a-b",
    "/a.b",
    "/a%20b",
    "/a b",
    "/ä",
    "/(default)",
    "/{match}",
    "/{b",
    "/",
    "//",
    "/*",
    "/**",
    "/ {f}",
    "\n/{g}",
    " /h",
    "/$(i)",
    "/service",
    "/allow",
    "/{ j = ** }",
    "/a/*x*/",
]
_WORDS = [
    " allow ",
    "match",
    " if ",
    ": if",
    "if",
    "function f() { return true; }",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    ":",
    "/",
    "//",
    "/*",
    "*/",
    "'",
    '"',
    "\\",
    "=",
    "==",
    "&&",
    "&",
    "|",
    "||",
    "!",
    "-",
    "--",
    "**",
    "*",
    "=**",
    " in ",
    " is ",
    " is string",
    "?",
    "$",
    "$(",
    ".",
    "..",
    "\n",
    " ",
    "\ufeff",
    "\u00a0",
    "\u2028",
    "#",
    "@",
    "%",
    "0",
    "1.",
    ".5",
    "let x = 1;",
    "return ",
    "service ",
    " a ",
    "rules_version = '1';",
    "allow read;",
    "/a/{b}",
    "{c=**}",
    "{c=*}",
    "b'x'",
    "true",
]
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")


def _mostly(good: Sequence[str], odd: Sequence[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 15).flatmap(lambda draw: st.sampled_from(odd if draw == 7 else good))


def _spaced(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    texts: list[st.SearchStrategy[str]] = []
    for part in parts:
        texts += [st.just(part) if isinstance(part, str) else part, st.sampled_from(_SPACES)]
    return st.tuples(*texts).map("".join)


def _expression(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(_OPERATORS).map(lambda sign: f" {sign} " if sign.isalpha() else sign)
    return st.one_of(
        _spaced(inner, operator, inner),
        _spaced(inner, " is ", _mostly(_TYPES[:-2], _TYPES[-2:])),
        _spaced("(", inner, ")"),
        _spaced(inner, "?", inner, ":", inner),
        _spaced(_mostly(["!", "-"], ["+"]), inner),
        _spaced(inner, "[", inner, "]"),
        _spaced(inner, "[", inner, ":", inner, "]"),
        _spaced(inner, ".", _mostly(["a", "b()", "size()", "get('x', 1)", "in"], ["service", "1"])),
        _spaced("[", inner, ",", inner, _mostly(["]", ",]"], [""])),
        _spaced("{", inner, ":", inner, st.sampled_from(["}", ",}"])),
        _spaced("f(", inner, ",", inner, ")"),
        _spaced("/a/$(", inner, ")", st.sampled_from(["", "/b", "/{c}", ".d"])),
    )


_GOOD = ["a", "b.c", "request.auth.uid", "resource.data", "true", "null", "1", "'x'", '"y"', "[]", "/a/$(b)", "f()"]
_LEAF = _mostly(_GOOD, _LEAVES)
EXPRESSIONS = st.recursive(_LEAF, _expression, max_leaves=6)
_ALLOWS = st.one_of(
    _spaced(
        "allow ",
        _mostly(["read", "get, list", "read, write", "foo"], ["", "if", "read,"]),
        ": if ",
        EXPRESSIONS,
        ";",
    ),
    _spaced("allow ", st.sampled_from(["read", "write"]), ": if ", EXPRESSIONS, _mostly(["", ";"], [";;"])),
    _mostly(["allow read;", "allow write"], ["allow read: true;", "allow read if true;", ";"]),
)
_LETS = st.lists(_spaced("let ", _mostly(["x", "y", "z"], ["a", "in"]), "=", EXPRESSIONS, ";"), max_size=2).map("".join)
_FUNCTIONS = _spaced(
    "function ", _mostly(["f", "g", "h", "k", "get"], ["if"]), _mostly(["()", "(a)", "(a, b)"], ["(a,)", "(a, a)"]),
    "{", _LETS, "return ", EXPRESSIONS, st.sampled_from([";", ";", ""]), "}",
)  # fmt: skip
_SEGMENT = _mostly(["/a", "/notes", "/{b}"], _SEGMENTS)
_PATHS = st.lists(_SEGMENT, min_size=1, max_size=3).map("".join)


def _match(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _spaced("match ", _PATHS, " {", st.lists(inner, min_size=1, max_size=3).map(" ".join), "}")


_STATEMENTS = st.recursive(st.one_of(_ALLOWS, _FUNCTIONS), _match, max_leaves=4)
_HEADS = _mostly(["rules_version = '2';\n"], ["", "rules_version = '1'\n", "rules_version='3';", "\ufeff", "// c\n"])
_SERVICES = _mostly(["service cloud.firestore"], ["service firebase.storage", "service a_b", "service", "service  if"])

PROGRAMS = _spaced(
    _HEADS,
    st.sampled_from(["", "", "", "function top() { return 1; }"]),
    _SERVICES,
    "{ match /databases/{database}/documents {",
    st.lists(_match(_STATEMENTS), min_size=1, max_size=2).map("\n".join),
    "} }",
    _mostly(["", "// end", "function late() { return 1; }"], ["}", "/* end"]),
)
"""Rules files by the language's grammar, with leaves that may be wrong."""

_PATTERN = st.lists(
    st.sampled_from(
        [*"ab01()[]{}*+?^$|.,-:\\", "\\d", "\\p{L}", "[:alpha:]", "(?:", "(?i)", "{2}", "{2,3}", "\\Q", "\\E", "[^"]
    ),
    min_size=1,
    max_size=6,
).map("".join)


def _matching(pattern: str) -> str:
    literal = pattern.replace("\\", "\\\\")
    return (
        "rules_version = '2';\nservice cloud.firestore { match /databases/{database}/documents { match /a/{b} { "
        f"allow read: if b.matches('{literal}'); }} }} }}"
    )


PATTERNS = _PATTERN.map(_matching)
"""Rules with a regular expression that may be wrong."""

FILES = tuple(
    path.read_text(encoding="utf-8")
    for path in sorted(
        [ROOT / "firestore.rules", ROOT / "storage.rules", *(ROOT / "shared" / "rules" / "tests").glob("**/*.rules")]
    )
)


@st.composite
def changed_files(draw: st.DrawFn) -> str:
    """A whole rules file of :data:`FILES` with one to three changes."""
    text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 3))):
        pieces = [piece.span() for piece in _PIECE.finditer(text)]
        start, end = pieces[draw(st.integers(0, len(pieces) - 1))]
        kind = draw(st.sampled_from(["insert", "delete", "double", "replace", "swap", "cut"]))
        word = draw(st.sampled_from(_WORDS))
        if kind == "insert":
            text = text[:start] + word + text[start:]
        elif kind == "delete":
            text = text[:start] + text[end:]
        elif kind == "double":
            text = text[:end] + text[start:end] + text[end:]
        elif kind == "replace":
            text = text[:start] + word + text[end:]
        elif kind == "swap":
            text = text[:start] + text[end : end + 1] + text[start:end] + text[end + 1 :]
        else:
            text = text[:end] if word == "}" else text[:start] + text[start + 1 :]
        if not text:
            return " "
    return text
