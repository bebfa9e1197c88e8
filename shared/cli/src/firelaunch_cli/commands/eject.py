"""``firelaunch eject``: all that an app takes along when it moves to a project of its own, in one folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from string import Template

import click
from firelaunch.server.declarations import declarations
from firelaunch.settings.app import Settings
from firelaunch.text_file import read_text_file

from ..deploy.accounts import members
from ..deploy.data import wanted_indexes
from ..deploy.gcloud import CommandFailed, Tools
from .apps import app_argument, app_folder, env_option, load_settings, made_app, where
from .checkout import builds_of, firelaunch_checkout
from .data import export_data
from .rules import composed_rules

__all__ = ["command"]

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_LEFT_BEHIND = (".firelaunch", ".env", ".git", ".venv", "node_modules", "__pycache__", ".*_cache", "build")


@click.command("eject")
@app_argument
@click.option("--to", "project", required=True, metavar="PROJECT", help="The project that the app is to have.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder; else build/eject/<app> of the repo, or of an app outside of it.",
)
@click.option("--no-data", is_flag=True, help="Leave documents and users out.")
@env_option
def command(app: str, project: str, out: Path | None, no_data: bool) -> None:
    """Prepare the move of APP to a project of its own.

    The app with its new settings, its rules and indexes, its documents and its users go into one folder, with a page
    that says what to do with them. Nothing is changed, here or there. After an interruption run it again.
    """
    if not _PROJECT.fullmatch(project):
        raise click.BadParameter("a project id has 6 to 30 lower-case letters, digits and hyphens", param_hint="--to")
    root, folder = firelaunch_checkout(), app_folder(app)
    settings = load_settings(app)
    if settings.cloud.project == project:
        raise click.ClickException(f"{settings.app.id} is in {project} already; name the project that it is to have.")
    out = out or builds_of(root, folder, make=True) / "eject" / settings.app.id
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    _settings(folder, out / "app", project)
    _rules(root, folder, out, project)
    _indexes(root, folder, settings, out)
    if not no_data:
        done = export_data(settings, out / "data.jsonl")
        click.echo(f"data.jsonl: {done.documents:,} documents of {where(settings)}")
        _users(settings, out)
    (out / "STEPS.md").write_text(_steps(settings, project, out), encoding="utf-8")
    click.echo(f"What to do with it: {out / 'STEPS.md'}")


_OF_THE_OLD = (
    re.compile(r"^\[index\.vertex\][^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", re.MULTILINE),
    re.compile(r"^(?:bucket|database_id)\s*=[^\n]*\n", re.MULTILINE),
)
"""What names something of the old project that the new one has its own of: an index of vectors, the bucket of files, a
database that a restore made."""


def _settings(folder: Path, target: Path, project: str) -> None:
    """The app itself, with another project and that project's own database."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*_LEFT_BEHIND))
    path = target / "firelaunch.toml"
    text = read_text_file(path)
    for key, value in (("project", project), ("database", "shared")):
        text = _put(text, "cloud", key, f'"{value}"')
    for named in _OF_THE_OLD:
        text = named.sub("", text)
    path.write_text(text, encoding="utf-8")


def _put(text: str, table: str, key: str, value: str) -> str:
    line = re.compile(rf"(^\[{table}\][^\n]*\n(?:(?!\[)[^\n]*\n)*?{key}\s*=\s*)[^\n#]*", re.MULTILINE)
    changed, count = line.subn(lambda found: found[1] + value, text, count=1)
    if count:
        return changed
    changed, count = re.subn(rf"(?m)^\[{table}\][^\n]*\n", lambda found: f"{found[0]}{key} = {value}\n", text, count=1)
    return changed if count else f"{text.rstrip()}\n\n[{table}]\n{key} = {value}\n"


def _rules(root: Path, folder: Path, out: Path, project: str) -> None:
    """The base rules with this app's own, and no other's."""
    alone = out / ".alone"
    shutil.rmtree(alone, ignore_errors=True)
    (alone / folder.name).mkdir(parents=True)
    for name in ("firestore.rules", "firelaunch.toml"):
        if (folder / name).is_file():
            shutil.copy(folder / name, alone / folder.name)
    text = composed_rules(alone, root / "firestore.rules").text
    shutil.rmtree(alone)
    (out / "firestore.rules").write_text(text, encoding="utf-8", newline="\n")
    for name in ("storage.rules", "firebase.json"):
        shutil.copy(root / name, out)
    (out / ".firebaserc").write_text(json.dumps({"projects": {"default": project}}, indent=2) + "\n", encoding="utf-8")


def _indexes(root: Path, folder: Path, settings: Settings, out: Path) -> None:
    """The base indexes with those of this app's own collections and of its vectors."""
    own = made_app(folder)
    own.extensions["firelaunch"].services.store.close()
    length = settings.embedding.length if settings.index.backend == "firestore" else 0
    declared = declarations(own)["indexes"]
    wanted = wanted_indexes(root / "firestore.indexes.json", length, settings.index.filters, declared)
    (out / "firestore.indexes.json").write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def _users(settings: Settings, out: Path) -> None:
    if settings.environment.mode != "cloud":
        click.echo("users.json: left out, as users are in Firebase Auth; run it with FIRELAUNCH_MODE=cloud")
        return
    tools = Tools(os.environ, lambda line: click.echo(line, err=True), patient=False)
    aside, count = out / "users.json.new", 0
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write('{"users": [')
            for user in members(tools, settings.cloud.project, settings.identity.tenant, settings.app.id):
                file.write(("," if count else "") + "\n" + json.dumps(user))
                count += 1
            file.write("\n]}\n")
    except CommandFailed as failed:
        raise click.ClickException(f"{failed}\nMend: {failed.mend}") from None
    aside.replace(out / "users.json")
    click.echo(
        f"users.json: {count:,} users; it holds password hashes, so keep it to yourself, and delete it afterwards"
    )


def _steps(settings: Settings, new: str, out: Path) -> str:
    """The page that says what to do with what is in ``out``."""
    app, old = settings.app.id, settings.cloud.project
    files = [name for name in ("users.json", "data.jsonl") if (out / name).is_file()]
    bucket = settings.documents.bucket or (f"{old}.firebasestorage.app" if old else "")
    names = {"app": app, "old": old, "new": new, "bucket": bucket, "region": settings.cloud.region}
    names["files"] = " and ".join(f"`{name}`" for name in files)
    left = [*([f"delete {names['files']}"] if files else []), *([f"delete what the app left in {old}"] if old else [])]
    steps = [
        _MAKE_PROJECT,
        _STOP_SERVICE if old else _STOP,
        _DEPLOY,
        _USERS if "users.json" in files else _NO_USERS if old else "",
        _DOCUMENTS if "data.jsonl" in files else "",
        _FILES if bucket else _LOCAL_FILES,
        _COMPARE if "data.jsonl" in files else "",
        _CLIENTS + (" Tokens of the old project are refused." if old else ""),
        f"When all is well, {', and '.join(left)}." if left else "",
    ]
    numbered = [f"{number}. {step}" for number, step in enumerate(filter(None, steps), 1)]
    title = f"# Moving {app}{f' from {old}' if old else ''} to {new}"
    return Template("\n".join([title, _REHEARSE, *numbered, _LEFT])).substitute(names)


_REHEARSE = """
Rehearse it once with the app running; then do it with the app stopped, from a fresh folder.
"""
_MAKE_PROJECT = """Make the project: `gcloud projects create $new`, and link its billing account. The deploy below adds
   Firebase and the ways to sign in that `identity.sign_in` names; switch others on in the Firebase console."""
_AGAIN = """Then run
   `firelaunch eject` again with another `--out`: an export that is whole is not made a second time."""
_STOP = f"Stop the app, so that nothing is written any more. {_AGAIN}"
_STOP_SERVICE = f"""Stop the app, so that nothing is written any more (its users get an error until the move is done):
   `gcloud run services remove-iam-policy-binding $app --project=$old --region=$region --member=allUsers
   --role=roles/run.invoker`. {_AGAIN}"""
_DEPLOY = """Put `app/` into a clone of firelaunch as `apps/$app` (in place of the old one there, or in a clone of its
   own), and deploy it: `firelaunch deploy $app`. Rules and indexes go along; those here are for reading and for other
   tools."""
_USERS = """Users: `firebase auth:import users.json --project=$new` with the old project's hash parameters, which the
   console shows (Authentication, Users, the three dots, Password hash parameters):
   `--hash-algo=SCRYPT --hash-key=... --salt-separator=... --rounds=8 --mem-cost=14`. Their uids and their roles in
   $app go along, so nobody has to join again. Those who signed in by other providers than Google, Facebook, Twitter
   and GitHub sign in anew."""
_NO_USERS = """Users: none are in this folder. `FIRELAUNCH_MODE=cloud firelaunch eject`, without `--no-data`, takes
   those of $old along."""
_DOCUMENTS = "Documents: `FIRELAUNCH_MODE=cloud GOOGLE_CLOUD_PROJECT=$new firelaunch data import $app data.jsonl`."
_FILES = "Files: `gcloud storage cp --recursive gs://$bucket/apps/$app gs://$new.firebasestorage.app/apps/`."
_LOCAL_FILES = "Files: those on this machine are not taken along; upload them again."
_COMPARE = "Compare: `firelaunch data export` from the new project gives as many documents."
_CLIENTS = "Have clients use the new project's config (`firelaunch web-config $app`) and the new address."
_LEFT = """
What does not go along: vectors outside Firestore (have documents indexed anew), tasks that wait in Cloud Tasks,
secrets, Stripe's webhook address, logs.
"""
