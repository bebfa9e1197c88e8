"""Draw the rooms of shared/ into docs/architecture.md, from their imports."""

# ruff: noqa: T201 - a command line tool

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import imports  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)


def drawing() -> str:
    """Return the rooms by floor, and an arrow for each import that no other path of arrows implies."""
    rooms = imports.read().rooms()
    drawn = {name for name in rooms if "." in name and not name.startswith(("rules_tester.", "firelaunch_cli.__"))}
    graph = {name: rooms[name] & drawn for name in sorted(drawn)}
    lines = ["flowchart BT"]
    for number, floor in enumerate(imports.floors(graph), start=1):
        lines.append(f"  subgraph floor{number}[floor {number}]")
        lines += [f"    {name.replace('.', '_')}[{_label(name)}]" for name in floor]
        lines.append("  end")
    for name, below in sorted(graph.items()):
        implied = set().union(*(_reached(graph, other) for other in below)) if below else set()
        lines += [f"  {name.replace('.', '_')} --> {other.replace('.', '_')}" for other in sorted(below - implied)]
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    package, _, room = name.partition(".")
    return room if package == "firelaunch" else f"cli: {room}"


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for node in graph[todo.pop()] - seen:
            seen.add(node)
            todo.append(node)
    return seen


def page() -> str:
    """Return the page with the drawing as it is now."""
    return BLOCK.sub(lambda _: drawing(), PAGE.read_text(encoding="utf-8"), count=1)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print("docs/architecture.md")
