"""What is staged: the same bytes for the same sources, what an app runs from and nothing else, and never a secret."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from firelaunch_cli.commands import main
from firelaunch_cli.deploy import secrets
from firelaunch_cli.deploy.build_folder import StageError, stage_app, stage_functions
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, copy_repo, copy_template

KEY = "sk-" + "proj-Ab1" * 6


def contents(folder: Path) -> dict[str, tuple[str, int, int]]:
    """By path: the bytes' hash, the mode and the time."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mode,
            int(path.stat().st_mtime),
        )
        for path in folder.rglob("*")
    }


def test_two_clones_of_the_same_commit_stage_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the time, the umask and the leftovers of running the app are."""
    staged = {}
    for clone, mask in (("one", 0o022), ("two", 0o077)):
        before = os.umask(mask)
        try:
            root = copy_repo(tmp_path / clone)
            app = copy_template(tmp_path / clone / "apps" / "my-app")
            if clone == "two":
                (app / "app" / "__pycache__").mkdir()
                (app / "app" / "__pycache__" / "workflow.cpython-311.pyc").write_bytes(b"\x00")
                (app / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
                (app / "notes.txt").write_text("mine")
            made = stage_app(root, app, tmp_path / "out" / clone)
            functions = stage_functions(root, tmp_path / "out" / f"{clone}-functions")
        finally:
            os.umask(before)
        staged[clone] = (made.digest, contents(made.folder), functions.digest, contents(functions.folder))
    assert staged["one"] == staged["two"]


def test_an_image_holds_what_an_app_runs_from_and_nothing_else(tmp_path: Path) -> None:
    app = copy_template(tmp_path / "my-app")
    (app / "web" / "dist").mkdir(parents=True)
    (app / "web" / "dist" / "index.html").write_text("<p>")
    (app / "web" / "main.ts").write_text("")
    names = set(contents(stage_app(ROOT, app, tmp_path / "out").folder))
    assert {name.split("/")[1] for name in names if name.startswith("service/")} == {"app", "firelaunch.toml"}
    assert not any("test" in name or name.endswith((".ts", ".env.example")) for name in names)


def test_functions_hold_their_apps_settings_and_none_of_its_code(tmp_path: Path) -> None:
    """Functions of two apps differ by those alone, so that whoever needs the code can take the other's image."""
    apps = [copy_template(tmp_path / name) for name in ("one", "two")]
    with (apps[1] / "firelaunch.toml").open("a") as settings:
        settings.write("\n")
    plain = stage_functions(ROOT, tmp_path / "plain")
    one, two = (stage_functions(ROOT, tmp_path / f"{app.name}-functions", app) for app in apps)
    assert plain.digest == plain.code == one.code == two.code
    assert len({plain.digest, one.digest, two.digest}) == 3
    own = set(contents(one.folder)) - set(contents(plain.folder))
    assert {name for name in own if (one.folder / name).is_file()} == {
        "apps/my-app/firelaunch.toml",
        "apps/my-app/app/prompts/chat@1.md",
        *(f"apps/my-app/app/prompts/{path.name}" for path in (apps[0] / "app" / "prompts").iterdir()),
    }
    with (apps[0] / "app" / "workflow.py").open("a") as code:
        code.write("# more\n")
    assert stage_functions(ROOT, tmp_path / "again", apps[0]).digest == one.digest
    with (apps[0] / "firelaunch.toml").open("a") as settings:
        settings.write(f"# {KEY}\n")
    with pytest.raises(StageError, match=r"firelaunch\.toml, line \d+, looks like an API key"):
        stage_functions(ROOT, tmp_path / "leak", apps[0])


def test_staging_again_replaces_what_was_there_and_leaves_other_folders_alone(tmp_path: Path) -> None:
    app = copy_template(tmp_path / "my-app")
    first = stage_app(ROOT, app, tmp_path / "out")
    (app / "app" / "more.py").write_text("")
    second = stage_app(ROOT, app, tmp_path / "out")
    assert first.digest != second.digest
    assert "service/app/more.py" in contents(second.folder)
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    with pytest.raises(StageError, match="not staged: it is left as it is"):
        stage_app(ROOT, app, home)
    assert (home / "letter.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "my-app", "out"], "nothing half-made stays"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("app/config.py", f'KEY = "{KEY}"\n', "app/config.py, line 1, looks like an API key"),
        ("app/prompts/chat@2.md", f"Be kind.\n\n{KEY}\n", "line 3, looks like an API key"),
        ("app/.env", "X=1\n", "app/.env is a file for secrets"),
        ("app/.env.local", "X=1\n", "is a file for secrets"),
        ("app/tls.pem", "x", "app/tls.pem is a file for secrets"),
        ("app/data.json", '{"private_key_id": "0123456789abcdef0123"}', "a service account's key"),
        ("app/data.txt", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n", "a private key"),
        ("app/pay.py", "k = 'sk_live_" + "a1" * 12 + "'", "a Stripe key"),
        ("app/db.py", 'U = "postgresql://me:hunter22@db.example.com/x"', "an address with a password"),
    ],
)
def test_a_secret_is_refused_by_its_file_and_is_not_repeated(tmp_path: Path, name: str, text: str, said: str) -> None:
    app = copy_template(tmp_path / "my-app")
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).write_text(text)
    with pytest.raises(StageError) as refused:
        stage_app(ROOT, app, tmp_path / "out")
    assert said in str(refused.value)
    assert "Secret Manager" in str(refused.value)
    assert KEY not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_secret_in_the_settings_is_refused(tmp_path: Path) -> None:
    app = copy_template(tmp_path / "my-app")
    with (app / "firelaunch.toml").open("a") as settings:
        settings.write(f"# {KEY}\n")
    with pytest.raises(StageError, match=r"firelaunch\.toml, line \d+, looks like an API key"):
        stage_app(ROOT, app, tmp_path / "out")


def test_a_secret_among_the_packages_own_files_is_refused(tmp_path: Path) -> None:
    root = copy_repo(tmp_path / "repo")
    (root / "shared" / "firelaunch" / "src" / "firelaunch" / "mine.py").write_text(f"KEY = '{KEY}'\n")
    with pytest.raises(StageError, match=r"shared/firelaunch/src/firelaunch/mine\.py, line 1"):
        stage_functions(root, tmp_path / "out")


def test_a_link_is_refused_as_it_may_lead_out_of_the_app(tmp_path: Path) -> None:
    app = copy_template(tmp_path / "my-app")
    (app / "app" / "hosts").symlink_to("/etc/hosts")
    with pytest.raises(StageError, match="hosts is a link"):
        stage_app(ROOT, app, tmp_path / "out")


@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["ascii", "utf-16-le", "utf-16-be"]))
def test_a_key_is_found_whatever_is_around_it(before: bytes, after: bytes, encoding: str) -> None:
    assert secrets.in_bytes(before + b"\n" + KEY.encode(encoding) + b"\n" + after)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "task-management-and-more-of-it-2026",
            "sk-",
            "risk-2024-assessment-of-all-the-things",
            "sk-learn-is-a-library",
        ),
        *("postgresql://user:password@host/db", "redis://me:hunter22@localhost", "https://example.com:8080/a@b"),
        *("postgresql://$USER:$PASSWORD@db.example.com", "postgresql://{user}:{password}@{host}"),
    ],
)
def test_words_that_only_look_alike_are_let_through(text: str) -> None:
    assert not secrets.in_bytes(text.encode())


def test_the_wheel_is_what_the_repo_holds(tmp_path: Path) -> None:
    staged = stage_functions(ROOT, tmp_path / "out").folder
    (wheel,) = staged.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("firelaunch/") and name.endswith(".py")}
    source = ROOT / "shared" / "firelaunch" / "src"
    assert held == {str(path.relative_to(source)) for path in source.rglob("*.py")}
    assert (
        f"./{wheel.name} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
        in (staged / "requirements.txt").read_text()
    )


def test_an_app_with_packages_of_its_own_needs_a_lock_of_its_own(tmp_path: Path) -> None:
    app = copy_template(tmp_path / "my-app")
    project = app / "pyproject.toml"
    project.write_text(project.read_text().replace('["firelaunch[cloud]"]', '["firelaunch[cloud]", "LeftPad>=10"]'))
    with pytest.raises(StageError, match=r"needs leftpad.*uv pip compile"):
        stage_app(ROOT, app, tmp_path / "out")
    lock = (ROOT / "requirements.lock").read_text()
    (app / "requirements.lock").write_text(lock)
    with pytest.raises(StageError, match=r"does not fit .*\(leftpad\)"):
        stage_app(ROOT, app, tmp_path / "out")
    (app / "requirements.lock").write_text(f"{lock}leftpad==12.0 --hash=sha256:00\n")
    staged = stage_app(ROOT, app, tmp_path / "out").folder
    assert "leftpad==12.0" in (staged / "requirements.txt").read_text()
    (app / "requirements.lock").write_text(lock.replace("flask==", "flask==0.", 1) + "leftpad==12.0 --hash=sha256:00\n")
    with pytest.raises(StageError, match=r"does not fit .*\(flask\)"):
        stage_app(ROOT, app, tmp_path / "out")


def test_the_command_names_the_folder_and_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_repo(tmp_path / "repo")
    copy_template(root / "apps" / "my-app")
    monkeypatch.chdir(root)
    done = CliRunner().invoke(main, ["stage", "my-app"])
    assert done.exit_code == 0, done.output
    assert (root / "build" / "stage" / "my-app" / "Dockerfile").is_file()
    assert "sha256:" in done.output
    assert "This folder is no app: name one. There are: my-app." in CliRunner().invoke(main, ["stage"]).output
    (root / "apps" / "my-app" / "Dockerfile").unlink()
    done = CliRunner().invoke(main, ["stage", "my-app"])
    assert done.exit_code == 1
    assert "copy it from the template" in done.output
    shutil.rmtree(root / "build")
