"""Write the table of docs/limits.md anew: the rates of ``[rates]``, and the routes that are counted under each."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from firelaunch.server.app import _routes
from firelaunch.settings.sections import Rates

PAGE = Path(__file__).parent.parent / "docs" / "limits.md"
_TABLE = re.compile(r"(<!-- rates: .*? -->\n).*?(<!-- end of rates -->)", re.DOTALL)


def page(text: str) -> str:
    """The page, with its table as the code has it."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", text)


def table() -> str:
    """A row for each rate."""
    routes: dict[str, list[str]] = {}
    for noun in _routes():
        for route in noun.routes:
            if route.rate is not None:
                path = re.sub(r"<(\w+)>", r"{\1}", route.path)
                routes.setdefault(route.rate, []).append(f"`{route.method.upper()} {path}`")
    lines = ["| rate | a minute | routes |", "| --- | --- | --- |"]
    for name, field in Rates.model_fields.items():
        counted = ", ".join(routes.get(name, ["all with a token"]))
        lines.append(f"| `{name}` | {field.default:,} | {counted} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
