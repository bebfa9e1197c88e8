"""``make fuzz-api``: schemathesis against a served app, in all its forms of attack, for as long as EXAMPLES says.

The app has routes and collections of its own beside firelaunch's.

Every answer must have a status, a type, a body and an error code that ``/openapi.json`` tells of, and none may be a
5xx. It is run twice: with a budget that lasts, and with one that does not, so that most sends are refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from support import copy_with_own_routes, served

_SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
_GROUPS = "groups = 1000\ngroup_members = 10000\n"
_CHATS = '\n[groups]\nchats_paid_by = "writer"\nchats_on_erase = "delete"\n'
"""Settings without which an app has no groups, and they no chats."""

PLANS = {
    "a budget that lasts": {"requests_per_minute": "1000000", "daily_usd": '"1000000"'},
    "a budget that does not": {"requests_per_minute": "3", "daily_usd": '"0.01"'},
}


def fuzz(folder: Path, examples: int, *more: str) -> tuple[bool, str]:
    """Fuzz the app in ``folder``; returns whether all held, and what schemathesis said.

    Args:
        examples: test cases for each route, in each of the forms that make them up.
        more: arguments for schemathesis.
    """
    with served(folder) as server:
        header = f"Authorization: {server.sign_in('ada').headers['Authorization']}"
        document = f"{server.url}/openapi.json?admins=true"
        command = [_SCHEMATHESIS, "--config-file", CONFIG, "run", document, "-H", header]
        # The 204 of a stream says that no answer is on its way, also where the chat was deleted.
        command.append("--exclude-checks=use_after_free")
        options = ["--checks", "all", "-n", str(examples), "--generation-database", "none", "--no-color", *more]
        # The check of error codes, of which the schemas tell nothing, is a module of ours.
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_codes", "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(
            [*command, *options], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
        # What was sent must have left the app as it was: in service.
        healthy = server.client.get("/ready").status_code == 200
    return done.returncode == 0 and healthy, done.stdout + done.stderr


def apps(folder: Path) -> dict[str, Path]:
    """An app for each of the budgets, by what is said of it."""
    found = {}
    for number, (name, plan) in enumerate(PLANS.items()):
        found[name] = copy_with_own_routes(folder / str(number))
        settings = found[name] / "firelaunch.toml"
        text = settings.read_text()
        for key, value in plan.items():
            text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        settings.write_text(text.replace("daily_usd", f"{_GROUPS}daily_usd", 1) + _CHATS)
    return found


def main() -> int:
    """Fuzz at length.

    Returns:
        the exit code: 0 where every answer held.
    """
    examples = int(sys.argv[1])
    held = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in apps(Path(scratch)).items():
            sys.stdout.write(f"{name}: {examples} examples a route ...\n")
            sys.stdout.flush()
            ok, said = fuzz(folder, examples, "--continue-on-failure")
            sys.stdout.write(said if not ok else said[said.rindex("Test cases:") :])
            held = held and ok
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
