"""Check one app on this machine, without the network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from firelaunch.errors import SettingsError
from firelaunch.llm.retirements import model_warnings
from firelaunch.settings.app import Settings
from firelaunch.text_file import read_text_file

from ..deploy.rehearsal import rehearse, service_as_planned, settings_for_deploy
from ..deploy.variables import own_variables
from .base import Finding, note, ok, problem
from .env_file import EnvFile, read_env, with_env_file
from .system import file_system

__all__ = ["app_checks"]

_LEAST_BYTES = 200 * 2**20
_SECRETS = ("KEY", "SECRET", "TOKEN", "PASSWORD", "DATABASE_URL")


def app_checks(folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every check of the app in ``folder``: what stops its start first, then what a deploy would refuse."""
    env_file = read_env(folder / ".env")
    yield from _env_file(folder, env_file, environ)
    try:
        settings = Settings.load(folder / "firelaunch.toml", with_env_file(folder, environ))
        yield from _wired(settings)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield problem("settings", line, "docs/settings.md has every key and variable")
        return
    yield _port(settings.app.id, environ)
    yield _data(settings.environment.data)
    on = file_system(settings.environment.data) or file_system(folder)
    if on is not None:
        yield on
    yield from _deployed(folder, environ)
    yield _template(folder)


def _wired(settings: Settings) -> Iterator[Finding]:
    from firelaunch.services.build import build

    # Nothing is connected to, and nothing is written but for the development key, in a folder of its own.
    with tempfile.TemporaryDirectory() as folder:
        environment = settings.environment.model_copy(update={"data": Path(folder)})
        services = build(settings.model_copy(update={"environment": environment}))
    named = [prompt.model for prompt in services.prompts.in_use() if prompt.model]
    yield ok("settings", f"mode {settings.environment.mode}, answered by {settings.provider} ({settings.choice.chat})")
    for said in settings.warnings:
        yield note("settings", *said.split(": ", 1))
    for said in model_warnings(settings, datetime.now(UTC).date(), named):
        yield note("models", said, "docs/models.md")
    if settings.provider == "offline":
        mend = "set OPENAI_API_KEY, ANTHROPIC_API_KEY, or OPENAI_BASE_URL for your own server; .env.example names them"
        yield note("model", "the offline model answers, as no key is set", mend)


def _deployed(folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the deployed service would start with the app's settings and prompts."""
    try:
        own = own_variables(read_env(folder / ".env").values)
        rehearse(folder, service_as_planned(settings_for_deploy(folder, environ)), releasing=True, own=own)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield problem("deploy", line, "mend it before firelaunch deploy, which refuses it too")
        return
    yield ok("deploy", "the deployed service would start with these settings and prompts")


def _env_file(folder: Path, found: EnvFile, environ: Mapping[str, str]) -> Iterator[Finding]:
    path = folder / ".env"
    if not path.is_file():
        return
    problems = [(text, f"mend it in {path}") for text in found.problems]
    if path.stat().st_mode & 0o077 and os.name == "posix" and _secret(found):
        problems.append(("other users of this machine may read it", f"chmod 600 {path}"))
    if _git(folder, "ls-files", "--error-unmatch", ".env"):
        problems.append(("git keeps it, and with it the keys", "git rm --cached .env, and make new keys"))
    elif _git(folder, "rev-parse", "--is-inside-work-tree") and not _git(folder, "check-ignore", "-q", ".env"):
        problems.append(("git does not ignore it", "add .env to .gitignore"))
    for text, mend in problems:
        yield problem(".env", text, mend)
    unlike = [name for name, value in found.values.items() if environ.get(name, value) != value]
    if unlike:
        said = f"{', '.join(unlike)} in the environment differs from .env; the environment counts"
        yield note(".env", said, f"unset {' '.join(unlike)}")
    if not problems:
        yield ok(".env", f"{len(found.values)} variables")


def _secret(found: EnvFile) -> bool:
    return any(value and any(word in name for word in _SECRETS) for name, value in found.values.items())


def _template(folder: Path) -> Finding:
    try:
        made = json.loads(read_text_file(folder / ".firelaunch-answers.json"))["template_version"]
    except SettingsError as error:
        return problem("template", str(error), "docs/upgrade.md")
    except (OSError, ValueError, KeyError, TypeError):
        return note("template", "nothing says which template the app was made from", "docs/upgrade.md")
    now = version("firelaunch")
    if made != now:
        return note("template", f"made from {made}; firelaunch is {now}", f"firelaunch upgrade {folder.name} --dry-run")
    return ok("template", made)


def _data(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        return problem(
            "data folder", f"{folder}: {error.strerror}", "give this user the folder, or set FIRELAUNCH_DATA"
        )
    if free < _LEAST_BYTES:
        return problem("data folder", f"{folder}: {free // 2**20} MB are free", "make room, or set FIRELAUNCH_DATA")
    return ok("data folder", str(folder))


def _port(app_id: str, environ: Mapping[str, str]) -> Finding:
    text = environ.get("PORT") or "8080"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        return problem("port", f"PORT is {text!r}", "set PORT to a number from 1 to 65535, or unset it")
    port = int(text)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return problem("port", f"this user may not listen on {port}", "set PORT to 1024 or more")
        except OSError:
            if _serves(port) == app_id:
                return ok("port", f"{port}: the app runs there")
            return problem("port", f"{port} is taken by another program", "set PORT=8081, or pass --port 8081")
    return ok("port", f"{port} is free")


def _serves(port: int) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            app: str | None = json.load(answer).get("app")
            return app
    except (OSError, urllib.error.URLError, ValueError, AttributeError):
        return None


def _git(folder: Path, *words: str) -> bool:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607
    except OSError:
        return False
    return done.returncode == 0
