"""Fill the answers in where they are settings, say where firelaunch comes from, and print the next steps.

cookiecutter renders this file before it runs it; nothing but ``main`` holds Jinja, so that tests can import the rest.
"""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

MADE = ".firelaunch-template.tar.gz"
"""In an app: every file as it was made, from which ``firelaunch upgrade`` tells what was changed since."""

PARTS = {"firelaunch": "firelaunch", "firelaunch-cli": "cli", "firelaunch-rules-tester": "rules"}
"""The distributions that an app uses, and their folders in ``shared/``."""

LEFTOVERS = (".firelaunch", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "node_modules", "dist")
"""What running the raw template in place leaves behind; a secret key among it."""


def main():
    """Make what cookiecutter has rendered into an app."""
    answers = json.loads(r"""{{ cookiecutter | jsonify }}""")
    root = Path(answers["__working_folder"], answers["_repo_dir"]).resolve().parent
    app = Path.cwd()
    place = Path(answers["_place"] or app)
    remove_leftovers(app)
    given = {name: value for name, value in answers.items() if not name.startswith("_")}
    write(app / "firelaunch.toml", lambda text: settings(text, given))
    write(app / "pyproject.toml", lambda text: project(text, given, sources(root, app, place)))
    keep(app)
    record(root, app, place, given)
    if answers["_next_steps"]:
        print_next_steps(root, app)


def remove_leftovers(app):
    """Take away what is no part of the template."""
    for name in LEFTOVERS:
        for path in app.rglob(name):
            shutil.rmtree(path, ignore_errors=True)


def write(path, change):
    """Replace a file's text by ``change`` of it."""
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def settings(text, answers):
    """The text of firelaunch.toml with the answers in it; comments and order stay."""
    for table, key, name in (
        ("app", "id", "app_slug"),
        ("app", "name", "app_name"),
        ("app", "description", "description"),
        ("cloud", "project", "project"),
        ("cloud", "region", "region"),
        ("models", "provider", "model_provider"),
        ("index", "backend", "index"),
    ):
        text = put(text, table, key, toml_string(answers[name]))
    return text


def project(text, answers, places):
    """The text of pyproject.toml with the app's name and the places that firelaunch's parts come from."""
    text = put(text, "project", "name", toml_string(answers["app_slug"]))
    text = put(text, "project", "description", toml_string(answers["description"]))
    for name, place in places.items():
        text = put(text, "tool.uv.sources", name, place)
    return text


def put(text, table, key, value):
    """Replace the value of ``key`` in ``[table]`` and leave every other character as it is."""
    pattern = re.compile(rf"(^\[{re.escape(table)}\]\n(?:(?!\[).*\n)*?{key} = )[^\n]*", re.MULTILINE)
    text, count = pattern.subn(lambda match: match.group(1) + value, text, count=1)
    if count != 1:
        raise SystemExit(f"The template is broken: it has no {key} in [{table}].")
    return text


def toml_string(text):
    """``text`` as a TOML string. JSON's escapes are TOML's too, but JSON leaves DEL as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def sources(root, app, place):
    """Where the app takes firelaunch's parts from, as values of ``[tool.uv.sources]`` by their names.

    ``place`` is where the app is to be: ``app`` itself, but when an upgrade renders it elsewhere.
    """
    remote = origin(root, place)
    found = {}
    for name, part in PARTS.items():
        folder = root / "shared" / part
        if root in place.parents:
            found[name] = "{ path = %s, editable = true }" % toml_string(os.path.relpath(folder, place))
        elif remote == str(root):
            found[name] = "{ path = %s, editable = true }" % toml_string(str(folder))
        elif remote:
            found[name] = '{ git = %s, %s, subdirectory = "shared/%s" }' % (toml_string(remote), revision(root), part)
        else:
            # cookiecutter has unpacked a zip into a folder that nobody keeps, so the app takes its firelaunch along.
            kept = shutil.ignore_patterns("__pycache__", "tests")
            shutil.copytree(folder, app / "vendor" / part, ignore=kept)
            found[name] = '{ path = "vendor/%s" }' % part
    rules = root / "firestore.rules"
    if (app / "vendor").is_dir() and rules.is_file():  # the build of the command line takes it from there
        shutil.copy(rules, app / "vendor")
    return found


def origin(root, place):
    """Where the template is found again: a git URL or a folder; None inside the repo, and where it came as a zip."""
    if root in place.parents:
        return None
    remote = git(root, "config", "--get", "remote.origin.url")
    if remote and root.parent == clones():
        return url(remote)
    kept = (root / ".git").exists() or Path(tempfile.gettempdir()).resolve() not in root.parents
    return str(root) if kept else None


def revision(root):
    """The release's tag where the template is that release, else the commit it is."""
    tag = f"v{version(root)}"
    tags = (git(root, "tag", "--points-at", "HEAD") or "").split()
    return f'tag = "{tag}"' if tag in tags else 'rev = "%s"' % git(root, "rev-parse", "HEAD")


def url(remote):
    """The remote as a URL, without the password that it may hold: the app's pyproject.toml is no place for one."""
    remote = re.sub(r"^(https?://)[^/@]*@", r"\1", remote)
    short = re.fullmatch(r"([\w.-]+@[\w.-]+):(?!/)(.+)", remote)
    return f"ssh://{short.group(1)}/{short.group(2)}" if short else remote


def clones():
    """The folder in which cookiecutter keeps its clones of git URLs."""
    from cookiecutter.config import get_user_config

    return Path(get_user_config()["cookiecutters_dir"]).expanduser().resolve()


def version(root):
    """firelaunch's version."""
    text = (root / "shared" / "firelaunch" / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^version = "([^"]+)"', text, re.MULTILINE).group(1)


def git(root, *command):
    """What git says of ``root``; None where it is not the top of a work tree, or git is not there."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def keep(app):
    """Pack every file of the new app; the same files give the same bytes."""
    with (app / MADE).open("wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as packed:
            for path in sorted(path for path in app.rglob("*") if path.is_file() and path.name != MADE):
                entry = tarfile.TarInfo(path.relative_to(app).as_posix())
                entry.size, entry.mode = path.stat().st_size, 0o755 if os.access(path, os.X_OK) else 0o644
                with path.open("rb") as file:
                    packed.addfile(entry, file)


def record(root, app, place, answers):
    """Keep what the app was made from, so that a later template can be applied to it. Written last: the app is whole."""
    made = {
        "template_version": version(root),
        "template_commit": git(root, "log", "-1", "--format=%H", "--", "template"),
        "template_date": git(root, "log", "-1", "--format=%cs", "--", "template"),
        "template": origin(root, place),
        "answers": answers,
    }
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    (app / ".firelaunch-answers.json").write_text(text, encoding="utf-8")


def print_next_steps(root, app):
    """Say how to start the app, with what is on this machine, and where to look."""
    inside = app.parent == root / "apps"
    start = f"make serve APP={app.name}" if inside else f"cd {shlex.quote(str(app))} && {firelaunch(root)} serve"
    print(f"\nMade {app}\n")
    print(f"  start it            {start}")
    print("  what it answers     app/workflow.py, app/prompts/")
    print("  its settings        firelaunch.toml")


def firelaunch(root):
    """The command line, for an app outside of the repo: by uv, or the repo's own where uv is not installed."""
    own = root / ".venv" / "bin" / "firelaunch"
    if shutil.which("uv") or not own.is_file():
        return "uv run firelaunch" if shutil.which("uv") else "python3 -m pip install uv && python3 -m uv run firelaunch"
    return shlex.quote(str(own))


if __name__ == "__main__":
    main()
