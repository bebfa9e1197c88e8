"""Which apps are to be deployed: those of which a file changed, or all when something changed that they share.

Standard library alone, so that continuous integration can ask before anything is set up. Prints a JSON list.
"""

# ruff: noqa: S603, S607, T201 - a command line tool that asks git

import argparse
import json
import subprocess
import sys
from pathlib import Path

SHARED = (
    "shared/",
    "functions/",
    "requirements.lock",
    "firestore.rules",
    "firestore.indexes.json",
    "storage.rules",
)
"""What is in every app's image, or deployed with it."""

UNDEPLOYED = ("tests/", "evals/", ".github/", "README.md", ".env.example", ".gitignore")
"""What of an app is in no image."""


def main():
    """Print the list that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every app")
    which.add_argument("--only", metavar="APP", help="this one, if it is there")
    which.add_argument("--since", metavar="COMMIT", help="what changed after it; all, where git does not know it")
    parser.add_argument("--lines", action="store_true", help="one app a line, rather than JSON")
    asked = parser.parse_args()
    there = apps(Path())
    if asked.only and asked.only not in there:
        sys.exit(f"There is no app {asked.only!r} in apps/. There are: {', '.join(there) or 'none'}.")
    found = [asked.only] if asked.only else there if asked.all else changed(asked.since, there)
    print("\n".join(found) if asked.lines else json.dumps(found))


def apps(root):
    """The apps that git keeps: one that it ignores is not there for anybody else.

    Where there is no git, as in what "gcloud builds submit" uploads, those that are there; none is an error then, as
    nobody said that there is nothing to deploy.
    """
    listed = git(root, "ls-files", "-z", "--", "apps/*/firelaunch.toml")
    if listed is not None:
        return sorted(name.split("/")[1] for name in listed.split("\0") if name.count("/") == 2)
    found = sorted(path.parent.name for path in (root / "apps").glob("*/firelaunch.toml"))
    if not found:
        sys.exit(
            "There is no app in apps/, and no git that would know of one. gcloud uploads what .gitignore lets through: "
            "take the lines on apps/ out of it, and submit again (docs/ci.md)."
        )
    return found


def changed(since, there):
    """Those of ``there`` to be deployed for what changed after a commit."""
    said = git(Path(), "diff", "--name-only", "-z", "--no-renames", f"{since}..HEAD")
    if said is None:
        print(f"{since} is not known here; all apps count as changed.", file=sys.stderr)
        return there
    files = [name for name in said.split("\0") if name]
    if any(name.startswith(SHARED) for name in files):
        return there
    of_apps = [name.split("/", 2) for name in files if name.startswith("apps/") and name.count("/") > 1]
    touched = {parts[1] for parts in of_apps if not parts[2].startswith(UNDEPLOYED)}
    return [app for app in there if app in touched]


def git(folder, *words):
    """What git says; None where it refuses."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    main()
