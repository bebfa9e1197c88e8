"""``make clients``: every generator and linter, their figures in build/clients.json. Exit 1 where something fails."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from support import ROOT, copy_template, copy_with_own_routes, served

from .generators import GENERATORS
from .lint import LINTERS
from .matrix import mealcoach, try_generator
from .packages import NoGenerators, javascript, python


def main() -> int:
    """Run it.

    Returns:
        the exit code: 0 where all went well, 1 where not, 2 where the generators cannot be had.
    """
    try:
        sys.stdout.write("installing the generators into build/, if they are not there ...\n")
        sys.stdout.flush()
        for name in ("js", "js_long"):
            javascript(name)
        for name in ("short", "long"):
            python(name)
    except NoGenerators as error:
        sys.stderr.write(f"{error}\n")
        return 2
    generators, linters, holds = {}, {}, True
    with tempfile.TemporaryDirectory() as scratch:
        with mealcoach(Path(scratch)) as (server, document):
            for generator in GENERATORS:
                result = try_generator(generator, document, server)
                holds = holds and result.holds
                generators[generator.name] = vars(result)
                tried = {"generated": result.generated, "compiled": result.compiled, "called": result.called}
                _say(generator.name, tried, result.fault)
        for app, file in _documents(Path(scratch)).items():
            for name, lint in LINTERS.items():
                found = lint(file)
                holds = holds and not found["errors"]
                linters[f"{name}, {app}"] = found
                _say(f"{name}, {app}", found, None)
    target = ROOT / "build" / "clients.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"generators": generators, "linters": linters}, indent=2) + "\n")
    return 0 if holds else 1


def _documents(scratch: Path) -> dict[str, Path]:
    """The documents of apps: the template's, the example's, and one with all kinds of routes."""
    files = {"mealcoach": scratch / "openapi.json"}
    for name, copy in {"template": copy_template, "own-routes": copy_with_own_routes}.items():
        with served(copy(scratch / name)) as server:
            files[name] = scratch / f"{name}.json"
            files[name].write_text(server.client.get("/openapi.json").text)
    return files


def _say(name: str, figures: dict[str, object], fault: str | None) -> None:
    told = ", ".join(f"{key} {'-' if value is None else value}" for key, value in figures.items())
    sys.stdout.write(f"{name}: {told}\n" + (f"{fault}\n" if fault else ""))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
