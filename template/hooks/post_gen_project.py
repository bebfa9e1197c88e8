"""Fill the answers in where they are settings, say where firelaunch comes from, and print the next steps."""

import json
import re
import shutil
import subprocess
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")
VERSION = ANSWERS["_template_version"]
APP = Path.cwd()
ROOT = Path(ANSWERS["_repo_dir"]).resolve().parent


def toml_string(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def fill(file, table, key, value):
    """Replace the value of ``key`` in ``[table]`` and leave every other character as it is."""
    path = APP / file
    pattern = re.compile(rf"(^\[{re.escape(table)}\]\n(?:(?!\[).*\n)*?{key} = )[^\n]*", re.MULTILINE)
    text, count = pattern.subn(lambda match: match.group(1) + value, path.read_text(encoding="utf-8"), count=1)
    if count != 1:
        raise SystemExit(f"{file} has no {key} in [{table}]: the template is broken.")
    path.write_text(text, encoding="utf-8")


def source():
    """Where the app takes firelaunch from, as a value of uv's ``[tool.uv.sources]``."""
    if APP.parent.parent == ROOT:
        return '{ path = "../../shared", editable = true }'
    remote = subprocess.run(
        ["git", "-C", str(ROOT), "config", "--get", "remote.origin.url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cloned = (ROOT / ".git").is_dir() and ROOT.parent == cookiecutters_folder()
    if cloned and remote:
        return "{ git = %s, tag = \"v%s\", subdirectory = \"shared\" }" % (toml_string(remote), VERSION)
    if (ROOT / ".git").exists():
        return "{ path = %s, editable = true }" % toml_string(str(ROOT / "shared"))
    # A zip is unpacked into a folder that goes when this is done, so the app takes its firelaunch along.
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "tests", "*.egg-info")
    shutil.copytree(ROOT / "shared", APP / "vendor" / "firelaunch", ignore=ignored)
    return '{ path = "vendor/firelaunch" }'


def cookiecutters_folder():
    try:
        from cookiecutter.config import get_user_config
    except ImportError:
        return Path.home() / ".cookiecutters"
    return Path(get_user_config()["cookiecutters_dir"]).resolve()


def remove_leftovers():
    """What running the raw template in place leaves behind is no part of an app."""
    for path in (APP / ".firelaunch", *APP.rglob("__pycache__"), *APP.glob(".*_cache")):
        shutil.rmtree(path, ignore_errors=True)


remove_leftovers()
fill("firelaunch.toml", "app", "id", toml_string(ANSWERS["app_slug"]))
fill("firelaunch.toml", "app", "name", toml_string(ANSWERS["app_name"]))
fill("firelaunch.toml", "app", "description", toml_string(ANSWERS["description"]))
fill("firelaunch.toml", "cloud", "project", toml_string(ANSWERS["project"]))
fill("firelaunch.toml", "cloud", "region", toml_string(ANSWERS["region"]))
fill("firelaunch.toml", "models", "provider", toml_string(ANSWERS["model_provider"]))
fill("firelaunch.toml", "index", "backend", toml_string(ANSWERS["index"]))
fill("pyproject.toml", "project", "name", toml_string(ANSWERS["app_slug"]))
fill("pyproject.toml", "project", "description", toml_string(ANSWERS["description"]))
fill("pyproject.toml", "tool.uv.sources", "firelaunch", source())

recorded = {name: value for name, value in ANSWERS.items() if not name.startswith("_")}
(APP / ".firelaunch-answers.json").write_text(
    json.dumps({"template_version": VERSION, "answers": recorded}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
)

inside = APP.parent.parent == ROOT
start = f"make serve APP={ANSWERS['app_slug']}" if inside else f"cd {APP.name} && uv run firelaunch serve"
print(f"Made {APP}")
print(f"  start it:       {start}")
print("  what it says:   app/workflow.py")
print("  its settings:   firelaunch.toml")
