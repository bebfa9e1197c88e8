"""The meaning of conditions as formulas of the solver Z3, to prove what is true of every request.

A value is null, a boolean, an integer, a string, or something else of a kind. Strings are numbers here: all that is
known of two of them is whether they are equal. What the language computes beyond that is unknown: a function of its
operands that may have any value, or fail. So whatever is proved holds for the language as it is, and what needs more is
not proved.

How operators treat errors and values of other types was asked of the emulator; ``make rules-fuzz`` compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3

from .patterns import unquoted
from .syntax import Expression, Function

__all__ = [
    "KINDS",
    "FormulaWords",
    "LookUp",
    "Meaning",
    "RuleScope",
    "Term",
    "Untranslatable",
    "Value",
    "has",
    "holds",
    "segment",
    "segments",
]

KINDS = (
    "float", "bytes", "list", "map", "path", "timestamp", "duration", "latlng", "set", "map_diff", "vector",
    "constraint", "request", "resource", "auth",
)  # fmt: skip
"""The kinds of values that are not null, booleans, integers or strings. The last three have fields that rules name."""
_MOST_NODES = 3000
"""Most expressions of a condition, with functions in place of their calls. Larger ones are left unknown."""
_BOOLEAN = frozenset({"exists", "existsAfter", "hasAll", "hasAny", "hasOnly", "matches"})
_LOOK_UPS = frozenset({"get", "exists", "getAfter", "existsAfter"})
_ORDERS = frozenset({"<", "<=", ">", ">="})


def _value_sort() -> Any:
    sort = z3.Datatype("Value")
    sort.declare("null")
    sort.declare("bool", ("truth", z3.BoolSort()))
    sort.declare("int", ("number", z3.IntSort()))
    sort.declare("string", ("text", z3.IntSort()))
    sort.declare("other", ("kind", z3.IntSort()), ("identity", z3.IntSort()))
    return sort.create()


Value: Any = _value_sort()
"""The sort of values."""
_MEMBER = z3.Function("member", Value, Value, Value)
_LACKS = z3.Function("lacks", Value, Value, z3.BoolSort())
_ALIKE = z3.Function("alike", Value, Value, z3.BoolSort())
_AMONG = z3.Function("among", Value, Value, z3.BoolSort())
"""Whether ``in`` takes two values for the same. It is stricter than ``==``, which takes 1 and 1.0 for the same."""


class Untranslatable(Exception):
    """The condition is beyond what is translated, so nothing is proved of it."""


@dataclass(frozen=True, slots=True)
class Term:
    """What an expression evaluates to: a value, or an error if ``fails`` is true."""

    value: Any
    fails: Any
    symbolic: bool = False
    """Whether it depends on the documents of a query, of which rules know only what the query asks for."""


LookUp = tuple[str, Any, Any]
"""A document that is looked up: by which function, its path, and the formula that this is done."""

Names = Mapping[str, Callable[[], Term]]
"""Parameters and bindings. Each is evaluated wherever it is used."""


@dataclass(frozen=True, slots=True)
class RuleScope:
    """What a block of the rules declares: functions, and the wildcards of its path."""

    functions: Mapping[str, Function]
    wildcards: Mapping[str, Term]


def holds(term: Term) -> Any:
    """Return the formula that an expression is true: no error, and no other value."""
    return z3.And(z3.Not(term.fails), term.value == Value.bool(True))


def _is_false(term: Term) -> Any:
    return z3.And(z3.Not(term.fails), term.value == Value.bool(False))


@dataclass
class FormulaWords:
    """The words that conditions share: each string and each unknown is the same in all of them.

    Attributes:
        strings: the number of each string that is written somewhere.
    """

    strings: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def string(self, text: str) -> Any:
        """Return the value of a string that is written out."""
        return Value.string(self.number(text))

    def number(self, text: str) -> int:
        """Return the number that stands for a string."""
        return self.strings.setdefault(text, len(self.strings))

    def other(self, kind: str, text: str) -> Any:
        """Return the value of another literal."""
        number = self._numbers.setdefault(f"{kind} {text}", len(self._numbers))
        return Value.other(KINDS.index(kind), number)

    def facts(self, method: str) -> list[Any]:
        """Return what is true of each request with ``method``."""
        request, resource = self.name("request"), self.name("resource")
        facts = [_is_kind(request, "request")]
        auth = self.member(request, "auth")
        facts += [self._has(request, "auth"), z3.Or(auth == Value.null, _is_kind(auth, "auth"))]
        signed_in = auth != Value.null
        uid, token = self.member(auth, "uid"), self.member(auth, "token")
        facts += [z3.Implies(signed_in, each) for each in (self._has(auth, "uid"), Value.is_string(uid))]
        facts += [z3.Implies(signed_in, each) for each in (self._has(auth, "token"), _is_kind(token, "map"))]
        facts += [self._has(request, "method"), self.member(request, "method") == self.string(method)]
        facts.append(z3.Or(resource == Value.null, self._is_document(resource)))
        if method in {"create", "update"}:
            sent = self.member(request, "resource")
            facts += [self._has(request, "resource"), self._is_document(sent)]
            facts.append((resource == Value.null) == z3.BoolVal(method == "create"))
        return facts

    def name(self, name: str) -> Any:
        """Return the value of a name that no block declares."""
        return z3.Const(f"name {name}", Value)

    def member(self, value: Any, key: str) -> Any:
        """Return the value of a field, if the value has it."""
        return _MEMBER(value, self.string(key))

    def _has(self, value: Any, key: str) -> Any:
        return has(value, self.string(key))

    def _is_document(self, value: Any) -> Any:
        return z3.And(
            _is_kind(value, "resource"), self._has(value, "data"), _is_kind(self.member(value, "data"), "map")
        )


def has(owner: Any, key: Any) -> Any:
    """Return the formula that a map, or an object of the language, has a field."""
    return z3.Not(_LACKS(owner, key))


def _is_kind(value: Any, kind: str) -> Any:
    return z3.And(Value.is_other(value), Value.kind(value) == KINDS.index(kind))


def _symbolic(*terms: Term) -> bool:
    return any(term.symbolic for term in terms)


def _boolean(true: Any, fails: Any) -> Term:
    return Term(Value.bool(true), fails)


def _equal(one: Any, other: Any, alike: Any = _ALIKE) -> Any:
    """Return the formula that ``==`` is true. Numbers are equal across types, and nothing is known of NaN."""
    mixed = z3.Or(
        z3.And(Value.is_other(one), Value.is_other(other)),
        z3.And(Value.is_int(one), _is_kind(other, "float")),
        z3.And(_is_kind(one, "float"), Value.is_int(other)),
    )
    return z3.If(mixed, z3.And(alike(one, other), alike(other, one)), one == other)


_OF_TYPE: dict[str, Callable[[Any], Any]] = {
    "bool": lambda value: Value.is_bool(value),
    "int": lambda value: Value.is_int(value),
    "string": lambda value: Value.is_string(value),
    "number": lambda value: z3.Or(Value.is_int(value), _is_kind(value, "float")),
}
_CHECKED = frozenset({"float", "bytes", "list", "path", "timestamp", "latlng"})
"""Kinds that ``is`` tells by themselves."""


class Meaning:
    """Translates expressions.

    Args:
        blocks: the blocks around the expression, outer ones first.
        replaced: functions that stand in for those that begin at these places.
        of_query: whether the request is a query.

    Attributes:
        look_ups: the documents that are looked up.
    """

    def __init__(
        self,
        words: FormulaWords,
        blocks: Sequence[RuleScope],
        replaced: Mapping[int, Function] | None = None,
        *,
        of_query: bool = False,
    ) -> None:
        self.look_ups: list[LookUp] = []
        self._words = words
        self._of_query = of_query
        self._blocks = tuple(blocks)
        self._replaced = replaced or {}
        self._left = _MOST_NODES
        self._reached: list[Any] = []
        self._deferred = 0

    def of(self, expression: Expression) -> Term:
        """Return what an expression evaluates to.

        Raises:
            Untranslatable: it is too large, or names something in a way whose meaning is not certain.
        """
        return self._of(expression, len(self._blocks), {})

    def _of(self, expression: Expression, level: int, names: Names) -> Term:
        """Translate below the first ``level`` blocks; ``names`` are parameters and bindings."""
        self._left -= 1
        if self._left < 0:
            raise Untranslatable
        node = expression.bare
        literal = self._literal(node)
        if literal is not None:
            return Term(literal, z3.BoolVal(False))
        if node.kind == "slice" and len(node.children) == 2:
            raise Untranslatable  # whether its bound is the first or the last is not told
        translate: Callable[[Expression, int, Names], Term | None] | None = getattr(self, f"_of_{node.kind}", None)
        found = translate(node, level, names) if translate else None
        if found is not None:
            return found
        return self._unknown(node, [self._of(child, level, names) for child in node.children])

    def _unknown(self, node: Expression, operands: Sequence[Term]) -> Term:
        """Return what may have any value, or fail, but is the same for the same operands."""
        label = f"{node.kind} {node.text} {len(operands)} {'/'.join(s.text for s in node.segments if s.value is None)}"
        if node.kind in {"call", "method"} and node.text in _BOOLEAN:
            true = self._applied(f"true {label}", operands, z3.BoolSort())
            return Term(Value.bool(true), self._failing(label, operands), _symbolic(*operands))
        return Term(self._applied(label, operands, Value), self._failing(label, operands), _symbolic(*operands))

    def _failing(self, label: str, operands: Sequence[Term]) -> Any:
        own = self._applied(f"fails {label}", operands, z3.BoolSort())
        return z3.Or(own, *(operand.fails for operand in operands))

    def _applied(self, label: str, operands: Sequence[Term], sort: Any) -> Any:
        if not operands:
            return z3.Const(label, sort)
        return z3.Function(label, *[Value] * len(operands), sort)(*(operand.value for operand in operands))

    def _of_name(self, node: Expression, level: int, names: Names) -> Term:
        if node.text in names:
            return names[node.text]()
        for block in reversed(self._blocks[:level]):
            if node.text in block.wildcards:
                if node.text in {"request", "resource"}:
                    raise Untranslatable
                return block.wildcards[node.text]
        symbolic = self._of_query and node.text == "resource"
        return Term(self._words.name(node.text), z3.BoolVal(False), symbolic)

    def _literal(self, node: Expression) -> Any:
        """Return the value of a literal, or None of other expressions."""
        match node.kind:
            case "constant":
                return Value.null if node.text == "null" else Value.bool(node.text == "true")
            case "string":
                return self._words.string(unquoted(node.text))
            case "int":
                return Value.int(int(node.text))
            case "float" | "bytes":
                return self._words.other(node.kind, node.text)
        return None

    def _of_list(self, node: Expression, level: int, names: Names) -> Term:
        return self._made("list", self._elements(node, level, names))

    def _elements(self, node: Expression, level: int, names: Names) -> list[Term]:
        """Translate the elements of a list, or what is inserted into a path."""
        elements = [self._of(child, level, names) for child in node.children]
        if self._deferred and sum(not z3.is_false(element.fails) for element in elements) > 1:
            # In an argument or a binding, two elements that fail are an error that no || mends in the emulator.
            raise Untranslatable
        return elements

    def _of_map(self, node: Expression, level: int, names: Names) -> Term:
        return self._made("map", [self._of(child, level, names) for child in node.children])

    def _made(self, kind: str, operands: Sequence[Term]) -> Term:
        label = f"{kind} of {len(operands)}"
        identity = self._applied(label, operands, z3.IntSort())
        return Term(Value.other(KINDS.index(kind), identity), self._failing(label, operands), _symbolic(*operands))

    def _of_unary(self, node: Expression, level: int, names: Names) -> Term | None:
        operand = self._of(node.children[0], level, names)
        if node.text == "!":
            return _boolean(_is_false(operand), z3.Not(z3.Or(holds(operand), _is_false(operand))))
        if node.children[0].bare.kind == "int":
            return Term(Value.int(-int(node.children[0].bare.text)), z3.BoolVal(False))
        return self._unknown(node, [operand])

    def _of_choice(self, node: Expression, level: int, names: Names) -> Term:
        condition = self._of(node.children[0], level, names)
        if condition.symbolic:
            raise Untranslatable
        first = self._under(holds(condition), node.children[1], level, names)
        second = self._under(_is_false(condition), node.children[2], level, names)
        value = z3.If(holds(condition), first.value, second.value)
        fails = z3.If(holds(condition), first.fails, z3.Or(z3.Not(_is_false(condition)), second.fails))
        return Term(value, fails, _symbolic(first, second))

    def _under(self, condition: Any, node: Expression, level: int, names: Names) -> Term:
        """Translate what is evaluated only under a condition."""
        self._reached.append(condition)
        term = self._of(node, level, names)
        self._reached.pop()
        return term

    def _of_is(self, node: Expression, level: int, names: Names) -> Term:
        operand = self._of(node.children[0], level, names)
        if operand.symbolic:
            return self._unknown(node, [operand])
        if node.text in _OF_TYPE:
            return _boolean(_OF_TYPE[node.text](operand.value), operand.fails)
        if node.text in _CHECKED:
            return _boolean(_is_kind(operand.value, node.text), operand.fails)
        known = z3.Or(*(test(operand.value) for test in _OF_TYPE.values()), operand.value == Value.null)
        unknown = self._applied(f"is {node.text}", [operand], z3.BoolSort())
        if node.text == "map":
            unknown = z3.Or(_is_kind(operand.value, "map"), unknown)
        return _boolean(z3.And(z3.Not(known), unknown), operand.fails)

    def _of_binary(self, node: Expression, level: int, names: Names) -> Term:
        if node.text in {"&&", "||"}:
            return self._of_chain(node, level, names)
        left = self._of(node.children[0], level, names)
        listed = node.children[1].bare
        if node.text == "in" and listed.kind == "list" and not left.symbolic:
            elements = self._elements(listed, level, names)
            if not _symbolic(*elements):
                fails = z3.Or(left.fails, *(element.fails for element in elements))
                return _boolean(z3.Or(*(_equal(left.value, element.value, _AMONG) for element in elements)), fails)
        right = self._of(listed, level, names)
        if _symbolic(left, right):
            return self._unknown(node, [left, right])
        fails = z3.Or(left.fails, right.fails)
        if node.text in {"==", "!="}:
            equal = _equal(left.value, right.value)
            return _boolean(equal if node.text == "==" else z3.Not(equal), fails)
        if node.text == "in":
            return self._of_in(node, left, right)
        if node.text in _ORDERS:
            return self._of_order(node, left, right)
        return self._unknown(node, [left, right])

    def _of_chain(self, node: Expression, level: int, names: Names) -> Term:
        left = self._of(node.children[0], level, names)
        if node.text == "&&":
            right = self._under(z3.Not(_is_false(left)), node.children[1], level, names)
            true, false = z3.And(holds(left), holds(right)), z3.Or(_is_false(left), _is_false(right))
        else:
            right = self._under(z3.Not(holds(left)), node.children[1], level, names)
            true, false = z3.Or(holds(left), holds(right)), z3.And(_is_false(left), _is_false(right))
        return _boolean(true, z3.Not(z3.Or(true, false)))

    def _of_in(self, node: Expression, left: Term, right: Term) -> Term:
        unknown = self._unknown(node, [left, right])
        of_map = z3.And(_is_kind(right.value, "map"), Value.is_string(left.value))
        value = z3.If(of_map, Value.bool(z3.Not(_LACKS(right.value, left.value))), unknown.value)
        return Term(value, z3.If(of_map, z3.Or(left.fails, right.fails), unknown.fails))

    def _of_order(self, node: Expression, left: Term, right: Term) -> Term:
        unknown = self._unknown(node, [left, right])
        one, other = Value.number(left.value), Value.number(right.value)
        less = {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[node.text]
        numbers = z3.And(Value.is_int(left.value), Value.is_int(right.value))
        return Term(
            z3.If(numbers, Value.bool(less), unknown.value),
            z3.If(numbers, z3.Or(left.fails, right.fails), unknown.fails),
        )

    def _of_member(self, node: Expression, level: int, names: Names) -> Term:
        return self._field(self._of(node.children[0], level, names), self._words.string(node.text))

    def _field(self, owner: Term, key: Any) -> Term:
        fails = z3.Or(owner.fails, owner.value == Value.null, _LACKS(owner.value, key))
        return Term(_MEMBER(owner.value, key), fails, owner.symbolic)

    def _of_index(self, node: Expression, level: int, names: Names) -> Term:
        owner, key = (self._of(child, level, names) for child in node.children)
        unknown = self._unknown(node, [owner, key])
        if unknown.symbolic:
            return unknown
        inner = self._field(owner, key.value)
        of_map = z3.And(_is_kind(owner.value, "map"), Value.is_string(key.value))
        return Term(
            z3.If(of_map, inner.value, unknown.value), z3.If(of_map, z3.Or(inner.fails, key.fails), unknown.fails)
        )

    def _of_method(self, node: Expression, level: int, names: Names) -> Term | None:
        owner = node.children[0].bare
        arguments = node.children[1:]
        if node.text == "get" and len(arguments) == 2:
            return self._of_get(node, [self._of(child, level, names) for child in node.children])
        of_keys = owner.kind == "method" and (owner.text, len(owner.children)) == ("keys", 1)
        if of_keys and node.text in {"hasAll", "hasAny"} and len(arguments) == 1:
            listed = arguments[0].bare
            if listed.kind == "list" and all(child.bare.kind == "string" for child in listed.children):
                return self._of_keys(node, owner.children[0], listed, level, names)
        return None

    def _of_get(self, node: Expression, operands: Sequence[Term]) -> Term:
        """Translate ``map.get(key, default)``."""
        owner, key, default = operands
        unknown = self._unknown(node, operands)
        if unknown.symbolic:
            return unknown
        of_map = z3.And(_is_kind(owner.value, "map"), Value.is_string(key.value))
        value = z3.If(_LACKS(owner.value, key.value), default.value, _MEMBER(owner.value, key.value))
        fails = z3.Or(owner.fails, key.fails, default.fails)
        return Term(z3.If(of_map, value, unknown.value), z3.If(of_map, fails, unknown.fails))

    def _of_keys(self, node: Expression, owner: Expression, listed: Expression, level: int, names: Names) -> Term:
        """Translate ``map.keys().hasAll([...])`` and ``hasAny``, of strings that are written out."""
        of = self._of(owner, level, names)
        keys = [self._words.string(unquoted(child.bare.text)) for child in listed.children]
        each = [z3.Not(_LACKS(of.value, key)) for key in keys]
        label = f"keys {node.text} {[unquoted(child.bare.text) for child in listed.children]}"
        is_map = _is_kind(of.value, "map")
        unknown = Term(self._applied(label, [of], Value), self._failing(label, [of]), of.symbolic)
        if of.symbolic:
            return unknown
        value = Value.bool(z3.And(*each) if node.text == "hasAll" else z3.Or(*each))
        return Term(z3.If(is_map, value, unknown.value), z3.If(is_map, of.fails, unknown.fails))

    def _of_path(self, node: Expression, level: int, names: Names) -> Term:
        if any(segment.name for segment in node.segments):
            raise Untranslatable
        operands = self._elements(node, level, names)
        label = "path " + "/".join("$" if segment.value else segment.text for segment in node.segments)
        identity = self._applied(label, operands, z3.IntSort())
        return Term(Value.other(KINDS.index("path"), identity), self._failing(label, operands), _symbolic(*operands))

    def _of_call(self, node: Expression, level: int, names: Names) -> Term | None:
        for place in range(level, 0, -1):
            function = self._blocks[place - 1].functions.get(node.text)
            if function is not None:
                function = self._replaced.get(function.start, function)
                if len(function.parameters) != len(node.children) or node.text in _LOOK_UPS:
                    raise Untranslatable
                return self._inlined(function, place, [self._later(child, level, names) for child in node.children])
        operands = [self._of(child, level, names) for child in node.children]
        if node.text in _LOOK_UPS:
            reached = z3.And(*self._reached, *(z3.Not(operand.fails) for operand in operands))
            self.look_ups.append((node.text, operands[0].value if operands else None, reached))
        return self._unknown(node, operands)

    def _inlined(self, function: Function, level: int, arguments: Sequence[Callable[[], Term]]) -> Term:
        inner = {parameter.text: later for parameter, later in zip(function.parameters, arguments, strict=True)}
        for binding in function.bindings:
            inner[binding.name] = self._later(binding.value, level, dict(inner))
        return self._of(function.value, level, inner)

    def _later(self, node: Expression, level: int, names: Names) -> Callable[[], Term]:
        def evaluate() -> Term:
            self._deferred += 1
            term = self._of(node, level, names)
            self._deferred -= 1
            return term

        return evaluate


def segment(place: int, *, many: bool = False) -> Any:
    """Return the value of a wildcard at a place of the path; ``many`` for one that matches any number of segments."""
    return segments(place, -1) if many else Value.string(z3.Int(f"segment {place}"))


def segments(start: int, end: int) -> Any:
    """Return the value of a wildcard that matches the segments from ``start`` to before ``end``."""
    return Value.other(KINDS.index("path"), z3.Int(f"segments {start} {end}"))
