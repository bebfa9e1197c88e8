"""What the deployed service would refuse at its start is refused before anything is made, in the same words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from firelaunch_cli.commands import main
from firelaunch_cli.deploy.rehearsal import release_prompts
from support import copy_repo, copy_template

PROMPT = Path("app") / "prompts" / "chat@1.md"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh app in a clone of its own, with what a founder's shell may hold."""
    repo = copy_repo(tmp_path / "repo")
    folder = copy_template(repo / "apps" / "my-app")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    monkeypatch.setenv("OPENAI_MODEL", "a-model-of-this-laptop")
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9099")
    monkeypatch.delenv("CI", raising=False)
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(app: Path) -> None:
        path = app / "firelaunch.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def other_model(app: Path) -> None:
    path = app / "firelaunch.toml"
    text, count = re.subn(r'^chat = ".*"$', 'chat = "nobody-sells-this"', path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def front_matter(app: Path) -> None:
    (app / PROMPT).write_text('+++\nmodel = "nobody-sells-this"\n+++\nAnswer.\n')


REFUSED: list[tuple[str, Callable[[Path], None], str]] = [
    ("a model without a price", other_model, "nobody-sells-this"),
    ("a prompt's model without a price", front_matter, "nobody-sells-this"),
    ("an index of a laptop's", edit('backend = "firestore"', 'backend = "embedded"'), "index.backend is 'embedded'"),
    ("a prompt that is not there", edit("chat = 1\n", "chat = 7\n"), "chat@7.md is not there"),
    (
        "a plan for sale without a page",
        edit('# stripe_price = "price_..."', 'stripe_price = "price_abc"'),
        "billing.return_url is empty",
    ),
    ("a misspelt key", edit("[limits]\n", "[limits]\nmax_tokens = 5\n"), "limits.max_tokens is not a setting"),
    ("an embedder without a price", edit("[index]\n", '[index]\nmodel = "unheard-of"\n'), "unheard-of"),
]


@pytest.mark.parametrize("command", [("deploy", "--dry-run"), ("stage",), ("doctor", "--offline"), ("deploy",)])
@pytest.mark.parametrize(("change", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_would_not_start_is_refused(
    app: Path, command: tuple[str, ...], change: Callable[[Path], None], said: str
) -> None:
    change(app)
    done = run(*command, "my-app")
    assert done.exit_code in (1, 2), done.output
    assert said in done.output
    assert not (app.parent.parent / "build" / "stage").exists()


def test_a_fresh_app_is_staged_with_its_prompt_released(app: Path) -> None:
    assert run("deploy", "my-app", "--dry-run").exit_code == 0
    assert not (app / PROMPT).with_name("prompts.lock").exists(), "a dry run changes nothing"
    (app / PROMPT).with_name("chat@2.md").write_text("A draft.\n")
    done = run("stage", "my-app")
    assert done.exit_code == 0, done.output
    assert "prompts.lock: chat@1.md is released" in done.output
    digest = hashlib.sha256((app / PROMPT).read_bytes()).hexdigest()
    for folder in (app, app.parent.parent / "build" / "stage" / "my-app" / "service"):
        # What is not in use is a draft, and may change.
        assert (folder / PROMPT).with_name("prompts.lock").read_text() == f"{digest}  chat@1.md\n"
    assert "prompts.lock" not in run("stage", "my-app").output


def test_a_released_prompt_that_was_changed_is_refused(app: Path) -> None:
    release_prompts(app)
    (app / PROMPT).write_text("Something else.\n")
    for command in (("deploy", "--dry-run"), ("stage",), ("doctor", "--offline")):
        done = run(*command, "my-app")
        assert done.exit_code in (1, 2), done.output
        assert "was changed after its release" in done.output


def test_in_continuous_integration_an_unreleased_prompt_is_refused(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written there is thrown away, so that the next deploy would know of no release."""
    monkeypatch.setenv("CI", "true")
    done = run("stage", "my-app")
    assert done.exit_code == 2
    assert f"{app / 'app' / 'prompts' / 'prompts.lock'} does not hold chat@1" in done.output
    assert "firelaunch lock-prompts" in done.output
    release_prompts(app)
    assert run("stage", "my-app").exit_code == 0


def test_a_service_that_fails_for_another_reason_is_told_of_in_one_line(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelaunch_cli.deploy.rehearsal._START", "raise OSError('no such thing')")
    done = run("stage", "my-app")
    assert done.exit_code == 2
    assert done.output.strip().endswith("my-app would not start: OSError: no such thing")


def test_a_relative_folder_is_staged_into(app: Path) -> None:
    done = run("stage", "my-app", "--out", "somewhere/else")
    assert done.exit_code == 0, done.output
    assert list(Path("somewhere/else").glob("firelaunch-*.whl"))
    done = run("stage", "--functions", "--out", "functions-out")
    assert done.exit_code == 0, done.output
