"""Make the small changes of a module: those of mutmut to a program's logic, and three more.

Left out are its changes of texts, of assignments to None, of arguments and of cases of a match: most of them change
what people read, or what mypy refuses. Added is what checks depend on: a statement is left out, a condition always or
never holds. Changed is what stands in functions. What a module sets as it is imported keeps its value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

__all__ = ["Mutant", "mutants_of"]

_LEFT_OUT = (
    mutators.operator_string,
    mutators.operator_assignment,
    mutators.operator_lambda,
    mutators.operator_arg_removal,
    mutators.operator_dict_arguments,
    mutators.operator_match,
)
_OPERATORS = [each for each in mutators.mutation_operators if each[1] not in _LEFT_OUT]
_CODE = cst.Module([])


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Attributes:
        id: the function, and its first line that differs, before and after. It outlives changes elsewhere in the file.
        lines: a test that runs one of these lines may notice.
        source: the whole file, changed.
    """

    id: str
    file: Path
    lines: range
    source: str


def mutants_of(file: Path) -> list[Mutant]:
    """Return the mutants of a module, from its first line to its last."""
    before = file.read_text()
    finder = _Finder(before)
    MetadataWrapper(cst.parse_module(before), unsafe_skip_copy=True).visit(finder)
    seen, mutants, ids = {before}, [], Counter[str]()
    for function, lines, after in finder.found:
        if after in seen:
            continue
        seen.add(after)
        name = f"{function}: {_difference(before, after)}"
        ids[name] += 1
        mutants.append(Mutant(name if ids[name] == 1 else f"{name} ({ids[name]})", file, lines, after))
    return mutants


def _difference(before: str, after: str) -> str:
    pairs = zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    old, new = next(pair for pair in pairs if pair[0] != pair[1])
    return " ".join(f"{old} -> {new}".split())


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, range, str]] = []
        self._source = source
        self._begins = list(accumulate(map(len, source.splitlines(keepends=True)), initial=0))
        self._names: list[str] = []
        self._depth = 0
        self._statements: list[int] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.append(node.name.value)
            self._depth += isinstance(node, cst.FunctionDef)
        if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.append(self.get_metadata(PositionProvider, node).start.line)
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Parameters) or _logs(node):
            return False
        if self._depth:
            self._change(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._names.pop()
            self._depth -= isinstance(original_node, cst.FunctionDef)
        if isinstance(original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self._statements.pop()

    def _change(self, node: cst.CSTNode) -> None:
        for old, new in _changes(node):
            at = self.get_metadata(PositionProvider, old, None)
            if at is not None:
                first, last = (self._begins[each.line - 1] + each.column for each in (at.start, at.end))
                after = self._source[:first] + _CODE.code_for_node(new) + self._source[last:]
                self.found.append((".".join(self._names), range(self._statements[-1], at.end.line + 1), after))


def _logs(node: cst.CSTNode) -> bool:
    """Return whether a node writes to the log, whose words no test must know: a line, or an error's reason."""
    match node:
        case cst.Arg(keyword=cst.Name("reason")):
            return True
        case cst.SimpleStatementLine(body=[cst.Expr(cst.Call(func=cst.Attribute(value=cst.Name("log"))))]):
            return True
    return False


def _changes(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """Yield parts of the node, each with what takes its place."""
    for kind, operator in _OPERATORS:
        if isinstance(node, kind):
            yield from ((node, new) for new in operator(node))
    match node:
        case cst.SimpleStatementLine(body=[(cst.Expr(cst.Call()) | cst.Raise()) as statement]):
            yield statement, cst.Pass()
        case cst.If(test=test) | cst.CompIf(test=test):
            yield test, cst.Name("False")
            yield test, cst.Name("True")
