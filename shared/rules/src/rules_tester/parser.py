"""Parse rules. What is accepted here is what the rules compiler accepts, as far as it depends on the text alone.

The language has no published grammar. This one was found by asking the compiler in the Firestore emulator, and
``make rules-fuzz`` holds the two together. No parser library is used: none cuts tokens and binds ``is`` as the compiler
does, and the isolation of apps depends on this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .patterns import unquoted
from .syntax import (
    Allow,
    Binding,
    Expression,
    Function,
    Match,
    Name,
    PathSegment,
    Ruleset,
    ServiceBlock,
    Span,
    Statement,
)
from .tokens import RulesSyntaxError, Token, tokens
from .validation import MOST_MATCHES, MOST_NESTED, check_ruleset, check_statements

__all__ = ["parse", "parse_statements"]

_Item = TypeVar("_Item")
_BINARY = {
    "||": 1, "&&": 2, "in": 3, "is": 4, "==": 5, "!=": 5, "<": 6, "<=": 6, ">": 6, ">=": 6,
    "+": 7, "-": 7, "*": 8, "/": 8, "%": 8,
}  # fmt: skip
"""The operators between operands; those with greater numbers bind more tightly."""
_CHOICE = 0
_LITERALS = ("string", "bytes", "int", "float")
_CONSTANTS = ("true", "false", "null")
_NOT_MEMBERS = ("service", "rules_version")
_NOT_SERVICES = frozenset(
    "allow deny extends false function if import in is match null package return service true".split()  # noqa: SIM905
)


def parse(source: str) -> Ruleset:
    """Parse a rules file.

    Raises:
        RulesSyntaxError: the rules compiler would refuse it.
    """
    parser = _Parser(source)
    ruleset = parser.ruleset()
    check_ruleset(ruleset)
    return ruleset


def parse_statements(source: str) -> tuple[Statement, ...]:
    """Parse what may stand inside the block of a match, or nothing, by version 2 of the language.

    Raises:
        RulesSyntaxError: the rules compiler would refuse it.
    """
    statements = _Parser(source).fragment()
    check_statements(statements)
    return statements


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = list(tokens(source))
        self._at = 0
        self._nested = self._matches = 0

    def ruleset(self) -> Ruleset:
        version = "1"
        if self._take("rules_version"):
            self._expect("=", "the version follows, as in: rules_version = '2';")
            version = unquoted(self._of_kind("string", "the version is a string, as in: rules_version = '2';").text)
            self._take(";")
        body: list[ServiceBlock | Function] = []
        while self._token.kind != "end" or not body:
            if self._token.text == "service":
                body.append(self._service())
            elif self._token.text == "function":
                body.append(self._function())
            elif self._token.text == "import":
                raise self._error("imports are not allowed")
            else:
                raise self._error("a service or a function is expected here, as in: service cloud.firestore { ... }")
        return Ruleset(version, tuple(body))

    def fragment(self) -> tuple[Statement, ...]:
        """Read statements up to the end of the text."""
        body = self.statements()
        if self._token.kind != "end":
            raise self._error("this } closes nothing that was opened here; take it out")
        return body

    def statements(self) -> tuple[Statement, ...]:
        """Read the statements of a match's block up to its closing brace, or to the end of the text."""
        body: list[Statement] = []
        while self._token.kind != "end" and not self._is_sign("}"):
            body.append(self._statement())
        return tuple(body)

    def _statement(self) -> Statement:
        word = self._token.text if self._token.kind == "keyword" else ""
        if word == "match":
            return self._match()
        if word == "allow":
            return self._allow()
        if word == "function":
            return self._function()
        if self._token.text.startswith("/*"):
            raise self._error("this comment is left open; close it with */")
        if self._token.kind == "segment" or self._is_sign("/"):
            raise self._error("a path may stand only behind match, or in a condition; write 'match' before it")
        raise self._error(f"{self._token.text!r} is no statement: only match, allow and function may stand here")

    def _service(self) -> ServiceBlock:
        start = self._next().start
        name = self._next()
        if name.text in _NOT_SERVICES:
            raise RulesSyntaxError(name.start, f"{name.text} is a word of the language and names no service")
        self._expect("{", "a service's block begins with {")
        body: list[Match | Function] = []
        while not self._is_sign("}") or not body:
            if self._token.kind == "keyword" and self._token.text == "match":
                body.append(self._match())
            elif self._token.kind == "keyword" and self._token.text == "function":
                body.append(self._function())
            else:
                raise self._error("the block of a service holds at least one match or function, and nothing else")
        return ServiceBlock(start, self._next().end, name.text, tuple(body))

    def _match(self) -> Match:
        start = self._next().start
        segments = self._segments(bound=False)
        if not segments:
            raise self._error("the path of a match follows here, as in 'match /notes/{note} {'")
        brace = self._expect("{", "the block of a match follows its path; a { is missing, or the path cannot be read")
        self._matches += 1
        if self._matches > MOST_MATCHES:
            raise RulesSyntaxError(start, f"matches are nested more than {MOST_MATCHES} deep; write longer paths")
        body = self.statements()
        self._matches -= 1
        if self._token.kind == "end":
            raise RulesSyntaxError(start, "the block of this match is not closed; a } is missing")
        if not body:
            raise self._error("the block of a match holds at least one match, allow or function")
        return Match(start, self._next().end, segments, brace.start, body)

    def _allow(self) -> Allow:
        start = self._next().start
        methods = self._names("write an allow as in 'allow get, list: if ...;'")
        condition = None
        end = methods[-1].end
        if self._take(":"):
            self._expect("if", "a condition begins with 'if', as in 'allow get: if ...;'")
            condition = self._expression()
            end = condition.end
        semicolon = self._take(";")
        return Allow(start, semicolon.end if semicolon else end, methods, condition)

    def _function(self) -> Function:
        start = self._next().start
        name = self._of_kind("name", "a function has a name")
        self._expect("(", "the parameters of a function follow its name, as in 'function name(one, other) {'")
        parameters = () if self._is_sign(")") else self._names("the names of parameters stand here, with commas")
        self._expect(")", "the parameters of this function are not closed; a ) is missing")
        self._expect("{", "the block of a function follows its parameters; a { is missing")
        bindings = []
        while self._token.kind == "keyword" and self._token.text == "let":
            bindings.append(self._binding())
        self._expect("return", "a function holds 'let name = ...;' and then one 'return ...;'")
        value = self._expression()
        self._take(";")
        end = self._expect("}", "the block of this function is not closed; a } is missing behind its return").end
        return Function(start, end, name.text, parameters, tuple(bindings), value)

    def _binding(self) -> Binding:
        start = self._next().start
        name = self._of_kind("name", "let gives a name to a value, as in 'let name = ...;'").text
        self._expect("=", "let gives a name to a value, as in 'let name = ...;'")
        value = self._expression()
        return Binding(start, self._expect(";", "a let ends with a ;").end, name, value)

    def _names(self, mend: str) -> tuple[Name, ...]:
        def name() -> Name:
            token = self._of_kind("name", mend)
            return Name(token.start, token.end, token.text)

        names = [name()]
        while self._take(","):
            names.append(name())
        return tuple(names)

    def _segments(self, *, bound: bool) -> tuple[PathSegment, ...]:
        """Read segments of a path as long as there are any. ``$(value)`` may be one if ``bound``."""
        segments: list[PathSegment] = []
        while True:
            if self._token.kind == "segment":
                token = self._next()
                segments.append(PathSegment(token.start + 1, token.end, token.text[1:]))
            elif self._is_wildcard(bound=bound):
                segments.append(self._wildcard())
            elif bound and self._are_signs("/", "$", "("):
                self._at += 1
                start = self._next().start
                self._at += 1
                value = self._expression()
                end = self._expect(")", "the $( of this path is not closed; a ) is missing").end
                segments.append(PathSegment(start, end, self._source[start:end], value=value))
            else:
                return tuple(segments)

    def _is_wildcard(self, *, bound: bool) -> bool:
        if not self._are_signs("/", "{"):
            return False
        # In an expression, a slash and a brace may also divide by a map. A match divides nothing.
        name, after = self._ahead(2), self._ahead(3)
        return not bound or (name.kind == "name" and after.kind == "sign" and after.text in {"}", "="})

    def _wildcard(self) -> PathSegment:
        self._at += 1
        start = self._next().start
        name = self._of_kind("name", "a wildcard has a name, as in {note} or {rest=**}").text
        glob = ""
        if self._take("="):
            glob = self._next().text if self._is_sign("*") or self._is_sign("**") else ""
            if not glob:
                raise self._error("only * or ** may follow the = of a wildcard, as in {rest=**}")
        end = self._expect("}", "a wildcard ends with }, as in {note} or {rest=**}").end
        return PathSegment(start, end, self._source[start:end], name, glob)

    def _expression(self, least: int = _CHOICE) -> Expression:
        """Read an expression of operators that bind at least as tightly as ``least``."""
        self._nested += 1
        self._check_nested(self._token.start)
        left = self._unary()
        while True:
            sign = self._token
            strength = _BINARY.get(sign.text) if sign.kind in {"sign", "keyword"} else None
            if strength is not None and strength >= max(least, 1):
                left = self._operation(left, self._next(), strength)
            elif least == _CHOICE and self._take("?"):
                first = self._expression()
                self._expect(":", "a choice needs both its branches, as in 'a ? b : c'")
                second = self._expression()
                left = self._made("choice", left.start, second.end, "?", (left, first, second), sign)
            else:
                break
        self._nested -= 1
        return left

    def _operation(self, left: Expression, sign: Token, strength: int) -> Expression:
        if sign.text == "is":
            of = self._of_kind("name", "the name of a type follows 'is', as in 'x is string'")
            return self._made("is", left.start, of.end, of.text, (left,), sign)
        right = self._expression(strength + 1)
        return self._made("binary", left.start, right.end, sign.text, (left, right), sign)

    def _unary(self) -> Expression:
        if self._is_sign("!"):
            sign = self._next()
            operand = self._within(self._unary)
        elif self._is_sign("-"):
            sign = self._next()
            operand = self._postfix()
        else:
            return self._postfix()
        return self._made("unary", sign.start, operand.end, sign.text, (operand,), sign)

    def _within(self, read: Callable[[], Expression]) -> Expression:
        self._nested += 1
        self._check_nested(self._token.start)
        read_expression = read()
        self._nested -= 1
        return read_expression

    def _postfix(self) -> Expression:
        left = self._primary()
        while True:
            if self._take("."):
                left = self._member(left)
            elif self._take("["):
                left = self._index(left)
            else:
                return left

    def _member(self, left: Expression) -> Expression:
        name = self._next()
        if name.kind not in {"name", "keyword"} or name.text in _NOT_MEMBERS:
            raise RulesSyntaxError(name.start, "the name of a field or a method follows a dot")
        if name.kind == "name" and self._take("("):  # a keyword may name a field, and no method
            arguments, end = self._listed(")", self._expression)
            return self._applied("method", left, end, name.text, arguments, name)
        return self._applied("member", left, name.end, name.text, (), name)

    def _index(self, left: Expression) -> Expression:
        bounds = []
        if not self._is_sign(":"):
            bounds.append(self._expression())
        kind = "slice" if self._take(":") else "index"
        if kind == "slice" and not self._is_sign("]"):
            bounds.append(self._expression())
        end = self._expect("]", "this [ is not closed; a ] is missing").end
        return self._applied(kind, left, end, "", tuple(bounds))

    def _primary(self) -> Expression:
        token = self._token
        if token.kind == "name":
            return self._named()
        if token.kind in _LITERALS:
            self._at += 1
            return Expression(token.kind, token.start, token.end, token.text)
        if token.text in _CONSTANTS:
            self._at += 1
            return Expression("constant", token.start, token.end, token.text)
        segments = self._segments(bound=True)
        if segments:
            values = tuple(segment.value for segment in segments if segment.value)
            return self._made("path", token.start, segments[-1].end, "", values, segments=segments)
        return self._bracketed()

    def _named(self) -> Expression:
        name = self._next()
        if not self._take("("):
            return Expression("name", name.start, name.end, name.text)
        arguments, end = self._listed(")", self._expression)
        return self._made("call", name.start, end, name.text, arguments)

    def _bracketed(self) -> Expression:
        start = self._token.start
        if self._take("("):
            inner = self._expression()
            end = self._expect(")", "this ( is not closed; a ) is missing").end
            return self._made("group", start, end, "", (inner,))
        if self._take("["):
            elements, end = self._listed("]", self._expression)
            return self._made("list", start, end, "", elements)
        if self._take("{"):
            pairs, end = self._listed("}", self._pair)
            return self._made("map", start, end, "", tuple(item for pair in pairs for item in pair))
        raise self._error("a value is expected here")

    def _pair(self) -> tuple[Expression, Expression]:
        key = self._expression()
        self._expect(":", "a map holds keys and values, as in {'key': value}")
        return key, self._expression()

    def _listed(self, close: str, read: Callable[[], _Item]) -> tuple[tuple[_Item, ...], int]:
        """Read items with commas up to the closing bracket, and return where it ends."""
        items: list[_Item] = []
        while not self._is_sign(close):
            items.append(read())
            if not self._take(","):
                break
        return tuple(items), self._expect(close, f"a comma or a {close} is expected here").end

    def _made(
        self,
        kind: str,
        start: int,
        end: int,
        text: str,
        children: tuple[Expression, ...],
        sign: Token | None = None,
        segments: tuple[PathSegment, ...] = (),
    ) -> Expression:
        # The compiler does not count a minus.
        depth = children[0].depth if kind == "unary" and text == "-" else _deeper(children)
        self._check_depth(start, depth)
        place: Span = (sign.start, sign.end) if sign else (0, 0)
        return Expression(kind, start, end, text, children, place, segments, depth)

    def _applied(
        self,
        kind: str,
        left: Expression,
        end: int,
        text: str,
        others: tuple[Expression, ...] = (),
        name: Token | None = None,
    ) -> Expression:
        depth = max(left.depth, _deeper(others))
        self._check_depth(left.start, depth)
        place: Span = (name.start, name.end) if name else (0, 0)
        return Expression(kind, left.start, end, text, (left, *others), place, depth=depth)

    def _check_depth(self, offset: int, depth: int) -> None:
        if depth > MOST_NESTED:
            raise RulesSyntaxError(offset, "this expression is nested too deeply; move a part of it into a function")

    def _check_nested(self, offset: int) -> None:
        # Far more than the compiler takes, and few enough for Python's own stack.
        if self._nested > MOST_NESTED + 20:
            raise RulesSyntaxError(offset, "this is nested too deeply")

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _ahead(self, count: int) -> Token:
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._token
        self._at += 1
        return token

    def _is_sign(self, text: str) -> bool:
        return self._token.text == text and self._token.kind in {"sign", "keyword"}

    def _are_signs(self, *texts: str) -> bool:
        ahead = [self._ahead(place) for place in range(len(texts))]
        return all(token.kind == "sign" and token.text == text for token, text in zip(ahead, texts, strict=True))

    def _take(self, text: str) -> Token | None:
        return self._next() if self._is_sign(text) else None

    def _expect(self, text: str, mend: str) -> Token:
        if not self._is_sign(text):
            raise self._error(mend)
        return self._next()

    def _of_kind(self, kind: str, mend: str) -> Token:
        if self._token.kind != kind:
            raise self._error(mend)
        return self._next()

    def _error(self, message: str) -> RulesSyntaxError:
        return RulesSyntaxError(self._token.start, message)


def _deeper(children: tuple[Expression, ...]) -> int:
    return max((child.depth + 1 for child in children), default=0)
