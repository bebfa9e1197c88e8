"""Who imports whom: the graph of the repo's own modules, its circles and its floors."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support import ROOT

__all__ = ["DISTRIBUTIONS", "Graph", "Import", "circles", "floors", "read"]

DISTRIBUTIONS = {"firelaunch": "firelaunch", "firelaunch_cli": "cli", "rules_tester": "rules"}
"""The folders in ``shared/`` of the packages."""


@dataclass(frozen=True, slots=True)
class Import:
    """An import of one module by another; both by dotted names."""

    by: str
    of: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The modules of the distributions, by dotted name, and what imports what, inside functions too."""

    modules: Mapping[str, Path]
    imports: frozenset[Import]

    def rooms(self) -> dict[str, set[str]]:
        """For each room, the rooms that it imports from. A room is a package's folder or loose module."""
        found: dict[str, set[str]] = {room(name): set() for name in self.modules}
        for each in self.imports:
            if room(each.by) != room(each.of):
                found[room(each.by)].add(room(each.of))
        return found

    def files(self) -> dict[str, set[str]]:
        """For each module, the modules that it imports."""
        found: dict[str, set[str]] = {name: set() for name in self.modules}
        for each in self.imports:
            found[each.by].add(each.of)
        return found


def room(module: str) -> str:
    """The room that a module stands in: "firelaunch.llm" for "firelaunch.llm.wire.sse"."""
    return ".".join(module.split(".")[:2])


def read() -> Graph:
    """Read the imports of every module in ``shared/*/src``."""
    modules = {}
    for package, folder in DISTRIBUTIONS.items():
        source = ROOT / "shared" / folder / "src"
        for path in sorted((source / package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    # The package's own module imports everything lazily, for apps; nothing inside imports from it but warn_of_move.
    imports = {
        Import(name, of)
        for name, path in modules.items()
        if name not in DISTRIBUTIONS
        for of in _imported(name, path, modules)
        if of != name and of not in DISTRIBUTIONS
    }
    return Graph(modules, frozenset(imports))


def _imported(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            base = ".".join([*package[: len(package) - node.level + 1], *parts] if node.level else parts)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in modules or base in modules:
                    yield full if full in modules else base
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Each set of nodes that import one another, directly or by way of others, sorted."""
    reached = {node: _reached(graph, node) for node in graph}
    sets = {frozenset({node, *(other for other in reached[node] if node in reached[other])}) for node in graph}
    return sorted(sorted(each) for each in sets if len(each) > 1)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for node in graph[todo.pop()] - seen:
            seen.add(node)
            todo.append(node)
    return seen


def floors(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The nodes by floor, lowest first: each imports from lower floors alone, and from the one right below it.

    Raises:
        ValueError: there is a circle.
    """
    left = {node: set(below) for node, below in graph.items()}
    found = []
    while left:
        floor = sorted(node for node, below in left.items() if not below & left.keys())
        if not floor:
            raise ValueError(f"these import one another: {circles(graph)}")
        found.append(floor)
        left = {node: below for node, below in left.items() if node not in floor}
    return found
