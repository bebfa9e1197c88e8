"""Which apps are to be deployed: those that differ from what is live, or all when something differs that they share.

Standard library alone, so that continuous integration can ask before anything is set up. Prints a JSON list; on
standard error, why each app is in it or not.
"""

# ruff: noqa: S603, S607, T201 - a command line tool that asks git and gcloud

import argparse
import functools
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared" / "src"))

from firelaunch import environments
from firelaunch.deploy.commits import COMMIT, SHARED_COMMIT, compared, git
from firelaunch.errors import SettingsError

GIVEN_BACK = "previous"
"""The tag of the revision that had the traffic before; after a rollback, of the one that lost it."""


def main():
    """Print the list that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every app")
    which.add_argument("--only", metavar="APP", help="this one, if it is there")
    which.add_argument("--since", metavar="COMMIT", help="what changed after it; all, where git does not know it")
    which.add_argument("--live", action="store_true", help="what differs from the live revisions, as gcloud knows them")
    parser.add_argument("--env", default="", metavar="NAME", help="the environment: only apps that have an [env.NAME]")
    parser.add_argument("--lines", action="store_true", help="one app a line, rather than JSON")
    asked = parser.parse_args()
    root = Path()
    there = apps(root)
    if asked.only and asked.only not in there:
        sys.exit(f"There is no app {asked.only!r} in apps/. There are: {', '.join(there) or 'none'}.")
    if asked.env not in ("", environments.PRODUCTION):
        there = having(root, there, asked.env)
    if asked.only or asked.all:
        found = [asked.only] if asked.only else there
    elif asked.live:
        found = [app for app in there if differs_from_live(root, app, asked.env)]
    else:
        found = [
            app for app in there if differs(root, app, [dict.fromkeys((COMMIT, SHARED_COMMIT), commit(asked.since))])
        ]
    print("\n".join(found) if asked.lines else json.dumps(found))


def apps(root):
    """The apps that git keeps, here or in a git of their own: one that it ignores is not there for anybody else.

    Where there is no git, as in what "gcloud builds submit" uploads, those that are there; none is an error then, as
    nobody said that there is nothing to deploy.
    """
    there = sorted(path.parent.name for path in (root / "apps").glob("*/firelaunch.toml"))
    if git(root, "rev-parse", "--show-toplevel") is not None:
        return [app for app in there if git(root / "apps" / app, "ls-files", "--", "firelaunch.toml")]
    if not there:
        sys.exit(
            "There is no app in apps/, and no git that would know of one. gcloud uploads what .gitignore lets through: "
            "take the lines on apps/ out of it, and submit again (docs/ci.md)."
        )
    return there


def having(root, there, environment):
    """Those of the apps that have an environment. Where none has it, it is misspelt."""
    found = [app for app in there if environment in environments.environments(settings(root, app))]
    if there and not found:
        sys.exit(f"No app has an [env.{environment}] in its firelaunch.toml.")
    for app in sorted({*there} - {*found}):
        print(f"{app}: it has no [env.{environment}]", file=sys.stderr)
    return found


def settings(root, app):
    """An app's settings file."""
    path = root / "apps" / app / "firelaunch.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        sys.exit(f"{path}: {error}")


def commit(name):
    """The whole name of a commit; what was given, where git does not know it."""
    return (git(Path(), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") or name).strip()


def differs(root, app, revisions):
    """Whether an app differs from any of the revisions that have traffic; each is given by its labels."""
    found = [compared(labels, root, root / "apps" / app) for labels in revisions]
    different = next((each for each in found if each.differs), None)
    print(f"{app}: {(different or found[0]).said}", file=sys.stderr)
    return different is not None


def differs_from_live(root, app, environment):
    """Whether an app differs from its live revision, or was never deployed.

    After a rollback the revision that was withdrawn counts: what it was made of is not deployed again by itself, and a
    later change is.
    """
    project, region = place(settings(root, app), environment)
    if not project:
        print(f"{app}: it names no project; its deploy says how to", file=sys.stderr)
        return True
    listed = services(project, region)
    service = next((each for each in listed or [] if each["metadata"]["name"] == app), None)
    if service is None:
        said = f"it has no service in {project}" if listed is not None else f"the services of {project} cannot be seen"
        print(f"{app}: {said}", file=sys.stderr)
        return True
    serving, withdrawn = revisions_of(service, project, region)
    if withdrawn is None:
        return differs(root, app, serving or [{}])
    print(f"{app}: {withdrawn['metadata']['name']} was rolled back", file=sys.stderr)
    return differs(root, app, [labels_of(withdrawn)])


def revisions_of(service, project, region):
    """The labels of the revisions that have traffic; and the revision that lost it to an older one, or None."""
    traffic = service["status"].get("traffic", [])
    names = [target["revisionName"] for target in traffic if target.get("percent")]
    latest = service["status"].get("latestCreatedRevisionName")
    if names == [latest]:
        return [labels_of(service["spec"]["template"])], None
    serving = [describe(name, project, region) for name in names]
    before = next((target["revisionName"] for target in traffic if target.get("tag") == GIVEN_BACK), None)
    if before is not None and before not in names:
        revision = describe(before, project, region)
        if all(made(revision) > made(each) for each in serving):
            return [labels_of(each) for each in serving], revision
    return [labels_of(each) for each in serving], None


def labels_of(revision):
    """The labels of a revision, or of a service's template."""
    return revision["metadata"].get("labels", {})


def made(revision):
    """When a revision was made; RFC 3339 in UTC, which sorts as it is."""
    return revision["metadata"]["creationTimestamp"]


def place(data, environment):
    """An app's project, empty where it names none, and its region."""
    environ = {**os.environ, environments.VARIABLE: environment or os.environ.get(environments.VARIABLE, "")}
    cloud = environments.overlaid(data, environments.chosen(environ)).get("cloud", {})
    return environments.project_of(data, environ), cloud.get("region", environments.DEFAULT_REGION)


@functools.cache
def services(project, region):
    """The services of a region; None where they cannot be seen, as before a project's first deploy."""
    done = gcloud("run", "services", "list", f"--region={region}", f"--project={project}")
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        return None
    return json.loads(done.stdout or "[]")


def describe(revision, project, region):
    """A revision. Not to know it is an error: what was rolled back would be deployed again."""
    done = gcloud("run", "revisions", "describe", revision, f"--region={region}", f"--project={project}")
    if done.returncode:
        sys.exit(f"{revision} cannot be seen: {done.stderr.strip()}")
    return json.loads(done.stdout)


def gcloud(*words):
    """What gcloud says, as JSON."""
    try:
        return subprocess.run(
            ["gcloud", *words, "--quiet", "--format=json"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        sys.exit("gcloud is not on the PATH, and knows what is live: https://cloud.google.com/sdk/docs/install")


if __name__ == "__main__":
    try:
        main()
    except SettingsError as error:
        sys.exit(str(error))
