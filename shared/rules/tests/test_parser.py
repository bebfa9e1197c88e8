"""The parser accepts what the rules compiler accepts, and knows where each part of the text is."""

# ruff: noqa: E501 - lists of texts

from __future__ import annotations

import pytest
from firelaunch.testing.emulator import Emulator, RulesError
from rules_tester.parser import parse, parse_statements
from rules_tester.syntax import Allow, Expression, Function, Match
from rules_tester.tokens import RulesSyntaxError


def file(body: str) -> str:
    return (
        f"rules_version = '2';\nservice cloud.firestore {{ match /databases/{{database}}/documents {{\n{body}\n}} }}\n"
    )


def condition(text: str) -> str:
    return file(f"match /a/{{b}} {{ allow read: if {text}; }}")


def path(text: str) -> str:
    return file(f"match {text} {{ allow read; }}")


def block(text: str) -> str:
    return file(f"match /a/{{b}} {{ {text} }}")


def functions(text: str) -> str:
    return file(f"{text} match /a/{{b}} {{ allow read; }}")


SERVICE = "service cloud.firestore { match /a/{b} { allow read; } }"
STORAGE = "service firebase.storage { match /b/{c}/o { match /{p=**} { allow read; } } }"

PATTERNS = [
    "[0)9]", "[a(b)c]", "[)(]", "[(]a[)]", "{{4}", "a{*", "{b{2}", "{,4}", "a{,2}*", "[[:foo:]]", "[[:alpha:]-z]", "[[:alpha]]",
    "[[:alpha]]:]", r"\\p{Foo}", r"\\p{Greek}", r"\\pX", r"\\p{L", "(?P<1>a)", "(?<a>b)(?P<a>c)", "(?)a", "a(?i)*", "(?i)*", "(?ix)a",
    r"\\Q[", r"\\Q(\\E", r"a\\Q\\E*", r"[\\Q]\\E]", r"\\x{110000}", r"[a-\\x{7a}]", r"[\\b]", r"[\\1]", r"\\1", r"\\12", "[*+]", "a*+", "^(?i)?",
]  # fmt: skip
CONDITIONS = [
    *(f"a.matches('{pattern}')" for pattern in PATTERNS),
    *(f"a.{name}{rest}" for name in ("match", "in", "null", "get") for rest in ("", "()", ".b()", "['c']")),
    "true", "1", "1.", ".5", "1e3", "01", "0x1F", "1..2", "1.b", "1 .b", "9223372036854775808", "-9223372036854775808",
    "-(9223372036854775808)", "a - 9223372036854775808", "--1", "- -a", "a - -b", "a--b", "+a", "-!a", "!-a", "!!a",
    "'a'", '"a"', "'a\nb'", "'\\q'", "'\\''", "'\\u1234'", "'\\u12'", "'\\x41'", "'\\012'", "'\\777'", "'\t'", "'\x08'",
    "'🔥'", "r'a'", "b'a'", "B'a'", "b 'a'", "b'\\u0041'", "b'\\x80'", "a.match", "a.allow", "a.function", "a.if", "a.in",
    "a.is is bool", "a.service", "a.rules_version", "a.deny", "match", "if", "let", "default", "each", "deny", "not", "get",
    "read", "$a", "$", "a.$", "ä", "a.ä", "'ä'", "`a`", "a ^ b", "a & b", "a | b", "a @ b", "a[1]", "a[1,2]", "a[:]", "a[1:2]",
    "a[b?c:d:e]", "a[]", "a()()", "a[1](2)", "(a)(b)", "a.b (c)", "null()", "a\n(b)", "f(1,)", "f(,)", "[1,]", "[,]", "{}",
    "{a:1,}", "{a}", "{1+2:3}", "{/a: b}", "{ /a : b}", "a is string", "a is foo", "a is null", "a is 1", "a is string.b",
    "a is(string)", "a is bool == b", "a in b in c", "a in in b", "a ? b : c ? d : e", "a ? b", "a ?? b", "a ? !b : c",
    "/a/b", "/a/$(b)/c", "get(/databases/$(database)/documents/a/$(b)).data.x == 1", "/a/$(b)c", "/a/b/", "/", "/a/$()",
    "/a/$(b,c)", "/a/$(/c/$(d))", "/a/$ ( b )", "/a/{b}", "/a/{b}/{b}", "/{a=**}/{b=**}", "/a / b", "/a / {}", "/a / {b}",
    "/a / {b: c}", "a/b", "a /b", "a/ b", "a/{}", "a/ {b}", "a/(default)", "a/ (default)", "/(default)/x", "/(a b)", "/()",
    "/a/b[1]", "/a/$(b)[1]/c", "/a/$(b).c()", "/a?b:c", "/a?/b:/c", "a//c\n/ b", "/%2", "/a%2", "/a%20", "/it's/$(b)",
    "math", "math.abs(1)", "math.abs", "duration.x.y()", "f(math)", "/a/{math}", "a.matches('(')", "a.matches('(?=b)')",
    "a.matches('[a-z]{1,32}$')", "a.split('(')", "a.replace('(', 'b')", "a /* c */ . // d\n b", "a\u00a0b", "a\x0b", "a\x0c",
]  # fmt: skip
PATHS = [
    "/a/{b}", "/a /{b}", "/a\n/{b}", "/ a/{b}", "/a/ {b}", "/a/{ b }", "/a/{b=**}", "/a/{b = **}", "/a/{b=*}", "/a/{b=***}",
    "/a/{b=* *}", "/a/{b=x}", "/a/{}", "/a/{1b}", "/a/*", "/a/**", "/a/{b}c", "/a/{b}/", "/a//{b}", "", "/", "a/{b}",
    "/it's/{x}", "/it's/{x}/o'k/{y}", '/a"b/{c}', "/a;b/{c}", "/a:b/{c}", "/a@b/{c}", "/a&b/{c}", "/a|b/{c}", "/a%b/{c}",
    "/a%20b/{c}", "/ä/{b}", "/a$(b)/{c}", "/$(b)/{c}", "/(default)/{b}", "/a/*x*/{b}", "/a /*x*/ /{b}", "/a//c\n/{b}",
    "/a/{b/*x*/}", "/a/{match}", "/match/{a}", "/service/{a}", "/a/{b}/{b}", "/{a=**}/{b=**}", "/{a=**}/b", "/a/{request}",
    "/a/{math}", "/a/{default}", "/../{b}", "/a\u2028/{c}",
]  # fmt: skip
BLOCKS = [
    "", "allow read", "allow read;", "allow read;;", ";", "allow read: if true", "allow read: true;", "allow read if true;",
    "allow: if true;", "allow foo;", "allow read,;", "allow read write;", "allow read: if true allow write",
    "allow read allow write", "allow read: if a match /c/{d} { allow get }", "match /c/{d} {}", "/c/{d} { allow read; }",
    "allow read: if true; function f() { return 1 }", "match/c/{d}{allow read;}", "allow\u00a0read;", "allow read; ä",
    "allow read; /* open", "allow read; } // }", "import 'x';", "allow read: if true;/*c*/",
    "match /{c=**} { match /{d=**} { allow read; } }",
]  # fmt: skip
FUNCTIONS = [
    "function f() { return true }", "function f() { true }", "function f() { return; }", "function f() {}",
    "function f() { let a = 1; return a; }", "function f() { let a = 1 return a; }", "function f(a) { let a = 1; return a; }",
    "function f() { let a = 1; let a = 2; return a; }", "function f(a,) { return a; }", "function f(a, a) { return a; }",
    "function f(a, b, c, d, e, f, g) { return a; }", "function f(a, b, c, d, e, f, g, h) { return a; }",
    "function f() { return f(); }", "function f() { return g(); } function g() { return f(); }", "function get() { return 1; }",
    "function f() { return 1; } function f(a) { return 2; }", "function if() { return 1; }", "function f() { return a.f(); }",
    "function f() { return 1; } match /c/{d} { function f() { return 2; } allow read; }", "function f(math) { return 1; }",
    "function f() { return g(); } match /c/{d} { function g() { return f(); } allow read: if g(); }",
    "".join(f"function f{n}() {{ return f{n + 1}(); }} " for n in range(20)) + "function f20() { return 1; }",
    "".join(f"function f{n}() {{ return f{n + 1}(); }} " for n in range(21)) + "function f21() { return 1; }",
    f"function f() {{ {''.join(f'let a{n} = 1; ' for n in range(11))} return 1; }}",
    f"function f() {{ {''.join(f'let a{n} = 1; ' for n in range(12))} return 1; }}",
]  # fmt: skip
FILES = [
    "", " ", "// c", SERVICE, f"\ufeff{SERVICE}", f"rules_version = '2' {SERVICE}", f"rules_version = '3'; {SERVICE}",
    f"rules_version = 2; {SERVICE}", f'rules_version = "2";{SERVICE}', f"rules_version='2';;{SERVICE}", f"{SERVICE};",
    f"{SERVICE} }}", f"{SERVICE} {SERVICE}", f"{SERVICE} {STORAGE}", STORAGE, f"function f() {{ return 1; }} {SERVICE}",
    f"{SERVICE} function f() {{ return 1; }}", "function f() { return 1; }", "service a { }", "service a_b { match /a { allow get; } }",
    "service cloud .firestore { match /a { allow get; } }", "service /*c*/ a { match /a { allow get; } }",
    "service a/*c*/{ match /a { allow get; } }", "service if { match /a { allow get; } }", "service a { allow get; }",
    "service a { match /{b=**}/c { allow get; } }", "rules_version = '2'; service a { match /{b=**}/c { allow get; } }",
    "service a { function f() { let b = 1; return b; } }", f"/* a */ */ {SERVICE}", f"import 'x'; {SERVICE}",
]  # fmt: skip


def nested(count: int) -> str:
    return file("".join(f"match /a/{{b{n}}} {{ " for n in range(count)) + "allow read; " + "}" * count)


LIMITS = [
    *(condition(f"{'(' * n}a{')' * n}") for n in (98, 99)),
    *(condition(f"{'a[' * n}a{']' * n}") for n in (98, 99)),
    *(condition(" && ".join(["a"] * n)) for n in (99, 100)),
    *(condition("-(" * n + "a" + ")" * n) for n in (98, 99)),
    *(path("/a" * n) for n in (97, 98)),
    *(nested(n) for n in (10, 11)),
]

TEXTS = [
    *map(condition, CONDITIONS), *map(path, PATHS), *map(block, BLOCKS), *map(functions, FUNCTIONS), *FILES, *LIMITS
]  # fmt: skip


def test_what_is_known_of_the_language_is_so_in_the_compiler(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    """Each text was once read differently by somebody: a parser of ours, or a reader of the documentation."""
    different = []
    for text in TEXTS:
        try:
            parse(text)
            ours = "accepted"
        except RulesSyntaxError as error:
            ours = str(error)
        try:
            firestore_emulator.load_rules(firestore_project, text)
            theirs = "accepted"
        except RulesError as error:
            theirs = str(error)
        if (ours == "accepted") != (theirs == "accepted"):
            different.append((text, ours, theirs))
    assert different == []


def tree(text: str) -> str:
    """The condition with a bracket around each operation."""
    source = condition(text)
    match = parse(source).services[0].body[0]
    assert isinstance(match, Match)
    inner = match.body[0]
    assert isinstance(inner, Match)
    assert inner.allows[0].condition is not None
    return bracketed(source, inner.allows[0].condition)


def bracketed(source: str, node: Expression) -> str:
    if node.kind == "group":
        return bracketed(source, node.children[0])
    if node.kind in {"binary", "choice", "is", "unary"}:
        children = [bracketed(source, child) for child in node.children]
        if node.kind == "is":
            return f"({children[0]}is {node.text})"
        return f"({node.text.join(['', *children] if node.kind == 'unary' else children)})"
    return source[node.start : node.end]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("a||b&&c==d<e+f*g", "(a||(b&&(c==(d<(e+(f*g))))))"),
        ("a+b+c", "((a+b)+c)"),
        ("!a.b&&c", "((!a.b)&&c)"),
        ("!a==b", "((!a)==b)"),
        ("-a+b", "((-a)+b)"),
        ("a in b==c", "(ain(b==c))"),
        ("a==b in c", "((a==b)inc)"),
        ("a==b is bool", "((a==b)is bool)"),
        ("a is bool==b", "((ais bool)==b)"),
        ("a+b is int+c", "(((a+b)is int)+c)"),
        ("a?b:c?d:e", "(a?b?(c?d?e))"),
        ("(a||b)&&c", "((a||b)&&c)"),
    ],
)
def test_operators_bind_as_in_the_compiler(text: str, means: str) -> None:
    """The operators' binding, as read from the expression tree that the emulator reports."""
    assert tree(text) == means


def test_every_part_knows_its_place() -> None:
    text = "match /it's/{x}/{r=**} { allow get , list : if f( x )[ 'y' ] != [1] ; function f(a) { return a } }"
    (match,) = parse_statements(text)
    assert isinstance(match, Match)
    assert match.path == ("it's", "{x}", "{r=**}")
    assert [text[s.start : s.end] for s in match.segments] == ["it's", "{x}", "{r=**}"]
    assert text[match.body_start] == "{"
    assert (match.start, match.end) == (0, len(text))
    allow, function = match.body
    assert isinstance(allow, Allow)
    assert isinstance(function, Function)
    assert [text[m.start : m.end] for m in allow.methods] == ["get", "list"]
    assert allow.condition is not None
    assert [text[node.start : node.end] for node in allow.condition.walk()] == [
        "f( x )[ 'y' ] != [1]", "f( x )[ 'y' ]", "f( x )", "x", "'y'", "[1]", "1"
    ]  # fmt: skip
    assert text[slice(*allow.condition.sign)] == "!="
    assert text[allow.start : allow.end].endswith("[1] ;")
    assert text[function.start : function.end] == "function f(a) { return a }"
