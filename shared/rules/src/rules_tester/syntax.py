"""The parts of a rules file, each with its place in the text. :mod:`.parser` makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = [
    "Allow",
    "Binding",
    "Expression",
    "Function",
    "Match",
    "Name",
    "PathSegment",
    "Ruleset",
    "ServiceBlock",
    "Span",
    "Statement",
]

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PathSegment:
    """A segment of a path, without its slash.

    Args:
        name: a wildcard's name, as in ``{name}``; empty for other segments.
        glob: what follows the name: "", "*" or "**".
        value: what ``$(value)`` inserts, in an expression's path.
    """

    start: int
    end: int
    text: str
    name: str = ""
    glob: str = ""
    value: Expression | None = None

    @property
    def plain(self) -> str:
        """The segment as it is usually written: "notes", "{note}" or "{rest=**}"."""
        if not self.name:
            return self.text
        return f"{{{self.name}=**}}" if self.glob == "**" else f"{{{self.name}}}"


@dataclass(frozen=True)
class Expression:
    """An expression.

    Args:
        kind: "name", "string", "bytes", "int", "float", "constant" (true, false, null), "list", "map", "path", "group"
            (in brackets), "call" (of a function), "method" (called on the first child), "member", "index", "slice",
            "unary", "binary", "is", or "choice" (``? :``).
        text: the name of a name, a call, a method or a member; the literal; the operator; the type after ``is``.
        children: the operands. For a method, a member, an index and a slice, the first is what they are applied to.
        sign: the place of the operator of a unary, a binary or an "is", and of the name of a member or method.
        segments: of a path.
        depth: how deep expressions are nested in this one, as the compiler counts.
    """

    kind: str
    start: int
    end: int
    text: str = ""
    children: tuple[Expression, ...] = ()
    sign: Span = (0, 0)
    segments: tuple[PathSegment, ...] = ()
    depth: int = 0

    @property
    def place(self) -> Span:
        """The span in the text."""
        return self.start, self.end

    @property
    def bare(self) -> Expression:
        """The expression without brackets around all of it."""
        inner = self
        while inner.kind == "group":
            inner = inner.children[0]
        return inner

    def walk(self) -> Iterator[Expression]:
        """Yield this expression and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def operands(self, sign: str) -> tuple[Expression, ...]:
        """Return the operands of a chain of one sign, without their brackets; of anything else, itself alone."""
        inner = self.bare
        if inner.kind == "binary" and inner.text == sign:
            return tuple(operand for child in inner.children for operand in child.operands(sign))
        return (inner,)


@dataclass(frozen=True, slots=True)
class Name:
    """A method of an allow, or a parameter of a function."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Allow:
    """An allow with its semicolon, if it has one. ``condition`` is None if it has none."""

    start: int
    end: int
    methods: tuple[Name, ...]
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class Binding:
    """A ``let`` of a function."""

    start: int
    end: int
    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Function:
    """A function. ``name_start`` is the place of its name."""

    start: int
    end: int
    name: str
    parameters: tuple[Name, ...]
    bindings: tuple[Binding, ...]
    value: Expression

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The values of its bindings, and what it returns."""
        return (*(binding.value for binding in self.bindings), self.value)


@dataclass(frozen=True)
class Match:
    """A match with its block. ``body_start`` is the place of its opening brace; ``end`` is behind the closing one."""

    start: int
    end: int
    segments: tuple[PathSegment, ...]
    body_start: int
    body: tuple[Match | Allow | Function, ...]

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The segments as they are usually written, such as "notes", "{note}" and "{rest=**}"."""
        return tuple(segment.plain for segment in self.segments)

    @property
    def allows(self) -> tuple[Allow, ...]:
        """The allows of the block itself."""
        return tuple(item for item in self.body if isinstance(item, Allow))


@dataclass(frozen=True, slots=True)
class ServiceBlock:
    """A service's block. ``end`` is behind its closing brace."""

    start: int
    end: int
    name: str
    body: tuple[Match | Function, ...]


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A rules file. ``version`` is "1" if the file names none."""

    version: str
    body: tuple[ServiceBlock | Function, ...]

    @property
    def services(self) -> tuple[ServiceBlock, ...]:
        """The services, in order."""
        return tuple(item for item in self.body if isinstance(item, ServiceBlock))

    def only(self, service: str) -> Ruleset:
        """Return the ruleset with one of its services alone, and the functions beside it."""
        return Ruleset(
            self.version,
            tuple(item for item in self.body if not isinstance(item, ServiceBlock) or item.name == service),
        )

    def statements(self) -> Iterator[Statement]:
        """Yield every match, allow and function of all blocks, outer ones first."""
        for item in self.body:
            yield from _within(item.body) if isinstance(item, ServiceBlock) else (item,)

    def expressions(self) -> Iterator[Expression]:
        """Yield every condition, and every value that a function binds or returns."""
        for statement in self.statements():
            if isinstance(statement, Function):
                yield from statement.expressions
            elif isinstance(statement, Allow) and statement.condition:
                yield statement.condition


Statement = Match | Allow | Function


def _within(body: Sequence[Statement]) -> Iterator[Statement]:
    for statement in body:
        yield statement
        if isinstance(statement, Match):
            yield from _within(statement.body)
