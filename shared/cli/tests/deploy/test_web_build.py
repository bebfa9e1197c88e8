"""A web client is built only where it has changed. A stand-in for npm records how it is called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from firelaunch_cli.commands.web_client import client_environ
from firelaunch_cli.deploy.web_build import BuildFailed, WebBuild, node_problem

NPM = """#!/bin/sh
echo "$1" >> calls.txt
if [ -e fail ]; then echo "npm error code E$1"; exit 1; fi
if [ "$1" = ci ]; then mkdir -p node_modules; else mkdir -p dist && cp src.ts dist/index.html; fi
"""


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    web = tmp_path / "app" / "web"
    web.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (web / name).write_text("{}")
    (web / "src.ts").write_text("one")
    return web.parent


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with stand-ins for Node and npm."""
    program(tmp_path / "bin", "npm", NPM)
    program(tmp_path / "bin", "node", "#!/bin/sh\necho v20.19.0\n")
    return f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def titles() -> list[str]:
    return []


@pytest.fixture
def build(app: Path, path: str, titles: list[str]) -> WebBuild:
    @contextmanager
    def step(title: str) -> Iterator[list[str]]:
        titles.append(title)
        yield []

    return WebBuild(app, step, {**os.environ, "PATH": path})


def calls(app: Path) -> list[str]:
    """The first argument of each call of npm since the last look."""
    file = app / "web" / "calls.txt"
    found = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def test_it_is_built_again_where_its_files_have_changed_and_its_packages_are_installed_where_the_lock_has(
    app: Path, build: WebBuild, titles: list[str]
) -> None:
    assert (build.run() / "index.html").read_text() == "one"
    assert calls(app) == ["ci", "run"]
    assert titles == ["install the web client's packages", "build the web client"]
    build.run()
    assert calls(app) == []
    (app / "web" / "src.ts").write_text("two")
    assert (build.run() / "index.html").read_text() == "two"
    assert calls(app) == ["run"]
    (app / "web" / "package-lock.json").write_text('{"a": 1}')
    build.run()
    assert calls(app) == ["ci", "run"]
    (app / "web" / "dist" / "index.html").unlink()
    build.run()
    assert calls(app) == ["run"], "what was built is gone"


@pytest.mark.parametrize(("step", "said"), [(["ci"], "npm ci"), (["run"], "npm run build")])
def test_what_npm_says_is_shown_and_nothing_half_made_is_taken_for_built(
    app: Path, build: WebBuild, step: list[str], said: str
) -> None:
    if step == ["run"]:
        build.run()
        calls(app)
        (app / "web" / "src.ts").write_text("two")
    (app / "web" / "fail").write_text("")
    with pytest.raises(BuildFailed, match=f"(?s){said}.* failed.*npm error code E{step[0]}"):
        build.run()
    (app / "web" / "fail").unlink()
    calls(app)
    assert (build.run() / "index.html").exists()
    assert calls(app) == (["ci", "run"] if step == ["ci"] else ["run"])


def test_an_example_that_holds_only_what_differs_is_built_with_the_templates_other_files(
    app: Path, build: WebBuild
) -> None:
    template = app.parent / "template" / "web"
    (app / "web").rename(app.parent / "moved")
    template.parent.mkdir()
    (app.parent / "moved").rename(template)
    (template / "old.ts").write_text("old")
    (app / "web").mkdir()
    example = replace(build, template=template)
    assert not build.there, "an app of its own brings all files"
    assert example.there
    assert (example.run() / "index.html").read_text() == "one"
    (app / "web" / "src.ts").write_text("the example's")
    (template / "old.ts").unlink()
    assert (example.run() / "index.html").read_text() == "the example's"
    assert not (example.folder / "old.ts").exists(), "a file that the template no longer has"
    assert sorted(path.name for path in (app / "web").iterdir()) == ["src.ts"], "nothing is made beside the sources"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v20.19.0", None),
        ("v24.1.0", None),
        ("v20.18.3", "v20.18.3, and 20.19 or newer"),
        ("v18.20.4", "v18"),
        ("", "unknown"),
    ],
)
def test_an_old_node_is_named(tmp_path: Path, path: str, version: str, said: str | None) -> None:
    program(tmp_path / "bin", "node", f"#!/bin/sh\necho {version}\n")
    problem = node_problem({"PATH": path})
    assert (problem is None) if said is None else (said in str(problem))
    assert node_problem({"PATH": str(tmp_path)}) == "Node is not there"


def test_serving_goes_on_without_a_client_and_says_why(
    app: Path, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FIRELAUNCH_WEB", raising=False)
    monkeypatch.setenv("PATH", path)
    assert client_environ(app, starts=lambda: False) == {}
    assert capsys.readouterr().out == "", "the app itself says why"
    assert client_environ(app) == {"FIRELAUNCH_WEB": str(app / "web" / "dist")}
    said = capsys.readouterr().out
    assert "may take two minutes" in said
    assert "put FIRELAUNCH_WEB= before the command" in said
    assert re.search(r"build the web client \.\.\. \d+\.\d s\n", said)
    calls(app)
    assert client_environ(app, starts=lambda: False) == {"FIRELAUNCH_WEB": str(app / "web" / "dist")}, "built before"
    (app / "web" / "src.ts").write_text("broken")
    (app / "web" / "fail").write_text("")
    assert client_environ(app) == {}
    said = capsys.readouterr().out
    assert "npm error code Erun" in said
    assert "/ is the plain page" in said
    monkeypatch.setenv("PATH", str(tmp_path))
    assert client_environ(app) == {}
    assert "/ is the plain page: Node is not there" in capsys.readouterr().out
    assert client_environ(tmp_path) == {}, "an app without a client"
    monkeypatch.setenv("FIRELAUNCH_WEB", "")
    assert client_environ(app) == {}
    assert capsys.readouterr().out == ""
