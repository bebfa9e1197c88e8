"""The firelaunch repo that a deploy is made from: its wheel, functions, rules and locks.

An app inside the repo is deployed from there. One made elsewhere is deployed from what its own firelaunch was installed
from: a folder, or a git at one commit, which is cloned into the cache folder once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from .apps import repo_around

__all__ = ["builds_of", "firelaunch_checkout"]

_MEND = (
    "Run this inside a clone of the firelaunch repo, where cookiecutter.json is, and name the app's folder: "
    "firelaunch deploy PATH"
)


def firelaunch_checkout() -> Path:
    """Find the repo around the current folder, else the one that the installed firelaunch comes from.

    Raises:
        ClickException: there is none, as where firelaunch was installed from a copy, or it cannot be cloned.
    """
    around = repo_around(Path.cwd())
    if around is not None:
        return around
    origin = _origin()
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        return _clone(url, str(origin["vcs_info"]["commit_id"]))
    folder = Path(unquote(urlsplit(url).path))
    found = repo_around(folder) if url.startswith("file:") and folder.parent.name == "shared" else None
    if found is None:
        raise click.ClickException(f"It is not known where this firelaunch comes from. {_MEND}")
    return found


def builds_of(root: Path, folder: Path, *, make: bool) -> Path:
    """Return the folder for what is built of an app: the repo's ``build``, or that of an app outside of the repo.

    Args:
        make: make an app's own ``build``, with a .gitignore that keeps it out of the app's git.
    """
    if folder.resolve().is_relative_to(root.resolve()):
        return root / "build"
    builds = folder / "build"
    if make and not (builds / ".gitignore").exists():
        builds.mkdir(exist_ok=True)
        (builds / ".gitignore").write_text("*\n", encoding="utf-8")
    return builds


def _origin() -> dict[str, Any]:
    """Where the installed firelaunch comes from, as its installer noted it (PEP 610)."""
    try:
        noted = importlib.metadata.distribution("firelaunch").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {}
    origin: dict[str, Any] = json.loads(noted) if noted else {}
    return origin


def _clone(url: str, commit: str) -> Path:
    """The repo at one commit; cloned once, and whole before it stands in its place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firelaunch" / "repos"
    target = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{commit[:40]}"
    if repo_around(target) == target:
        return target
    click.echo(f"firelaunch {commit[:12]} is cloned from {_shown(url)} ...", err=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        new = Path(scratch) / "repo"
        _git("clone", "--quiet", "--no-checkout", "--", url, str(new))
        _git("-C", str(new), "checkout", "--quiet", "--detach", commit)
        if target.exists():  # another process was first, or one was broken off
            shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    return target


def _git(*words: str) -> None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607 - git of the PATH
    except OSError as error:
        raise click.ClickException(f"git cannot be run: {error}. {_MEND}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["git said nothing"]
        raise click.ClickException(f"firelaunch cannot be cloned: {_shown(said[0])}. {_MEND}")


def _shown(text: str) -> str:
    """An address, or what names one, without the password that it may hold."""
    return re.sub(r"://[^/@\s]*@", "://", text)
