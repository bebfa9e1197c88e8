"""Build an app's web client as its founder does: ``make web``, into a folder below ``build/``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from firelaunch_cli.deploy.web_build import BuildFailed, node_problem
from javascript import NoJavaScript, install
from support import ROOT, TEMPLATE

__all__ = ["build_site", "example_site"]

_WEB = TEMPLATE / "web"
_OWN = ("node_modules", "dist")


def build_site(name: str = "template", *overlays: Path) -> Path:
    """Build the template's web client, with the files of each overlay in place of its own.

    The packages are installed once for each package-lock.json. Nothing is built where no file has changed.

    Returns:
        the folder with what was built.

    Raises:
        NoJavaScript: Node is missing or too old, or npm could not install the packages.
        BuildFailed: the sources do not build.
    """
    if (problem := node_problem()) is not None:
        raise NoJavaScript(problem)
    packages = install(_WEB, "index.html", ROOT / "build" / "web-site", lambda: _say("installing the packages ..."))
    folder = packages / name  # npm finds the packages in the folder above
    with (packages / f"{name}.lock").open("w") as alone:  # another worker may be about to build it too
        fcntl.flock(alone, fcntl.LOCK_EX)
        wanted, built = _digest(_WEB, *overlays), folder / "built"
        if not built.exists() or built.read_text() != wanted:
            _say("building the web client ...")
            shutil.rmtree(folder, ignore_errors=True)
            for source in (_WEB, *overlays):
                shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_OWN))
            _build(folder)
            built.write_text(wanted)
    return folder / "dist"


def _build(folder: Path) -> None:
    environ = {**os.environ, "PATH": f"{folder.parent / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["npm", "run", "build"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"npm run build failed:\n{(done.stdout + done.stderr).strip()[-6000:]}")


def _digest(*sources: Path) -> str:
    digest = hashlib.sha256()
    for source in sources:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            if path.relative_to(source).parts[0] not in _OWN:
                digest.update(f"{path.relative_to(source)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def example_site(name: str) -> Path:
    """Build the web client of an example, which holds only what differs from the template's."""
    return build_site(name, ROOT / "examples" / name / "web")


def main() -> int:
    """Build the template's web client, or that of the example that is named, and say where it is."""
    try:
        built = example_site(sys.argv[1]) if len(sys.argv) > 1 else build_site()
        _say(f"built {built.relative_to(ROOT)}")
    except (NoJavaScript, BuildFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
