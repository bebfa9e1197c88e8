"""Files that an editor on Windows saved: a byte order mark and CRLF are read; another encoding is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from firelaunch.errors import SettingsError
from firelaunch.prompts.lock import check, lock
from firelaunch.prompts.versions import Prompts
from firelaunch.settings.app import PromptChoice, Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.text_file import read_text_file
from firelaunch_cli.doctor.env_file import read_env
from firelaunch_cli.evals.answers import load_questions
from firelaunch_cli.evals.retrieval import CollectionError
from hypothesis import given
from hypothesis import strategies as st
from rules_tester.cases import CaseError, load_suite
from rules_tester.report import AllowListError, load_allow_list

PROMPT = '+++\nnotes = "mine"\n+++\nAnswer in ${language}.\n'
CASES = yaml.safe_dump({"cases": [{"get": "apps/a", "as": "nobody", "expect": "deny"}]})
QUESTIONS = '[[question]]\nask = "Where?"\nmust_contain = ["here"]\n'


def as_notepad_saves(path: Path) -> None:
    """A byte order mark, and CRLF."""
    text = path.read_text(encoding="utf-8")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write_app(tmp_path, SETTINGS)
    (tmp_path / "app" / "prompts" / "prompts.lock").unlink()
    (tmp_path / "app" / "prompts" / "chat@1.md").write_text(PROMPT)
    (tmp_path / "questions.toml").write_text(QUESTIONS)
    return tmp_path


def settings(app: Path) -> Settings:
    return Settings.load(app / "firelaunch.toml", {})


def test_what_notepad_saves_is_read_as_if_it_had_added_nothing(app: Path) -> None:
    before = settings(app)
    prompts = app / "app" / "prompts"
    lock(prompts)
    (app / ".env").write_text("OPENAI_MODEL=my-model\nB='two words'\n")
    for path in (app / "firelaunch.toml", prompts / "chat@1.md", prompts / "prompts.lock", app / ".env"):
        as_notepad_saves(path)
    as_notepad_saves(app / "questions.toml")
    assert settings(app) == before
    found = Prompts(prompts, {"chat": PromptChoice(version=1)}, released=True).get("chat")
    assert (found.notes, found.template) == ("mine", "Answer in ${language}.")
    check(prompts, ["chat@1"])  # neither a mark nor line ends change a released prompt
    assert read_env(app / ".env").values == {"OPENAI_MODEL": "my-model", "B": "two words"}
    assert load_questions(app)[0].question[0].ask == "Where?"


def load_prompts(path: Path) -> object:
    return Prompts(path.parent, {})


READERS: list[tuple[str, str, Callable[[Path], object], type[Exception]]] = [
    ("firelaunch.toml", SETTINGS, lambda path: Settings.load(path, {}), SettingsError),
    ("chat@1.md", PROMPT, load_prompts, SettingsError),
    ("prompts.lock", "a" * 64 + "  chat@1.md\n", lambda path: check(path.parent, []), SettingsError),
    ("questions.toml", QUESTIONS, lambda path: load_questions(path.parent), CollectionError),
    ("cases.yaml", CASES, load_suite, CaseError),
    ("equivalent.yaml", "- {id: a, reason: b}\n", load_allow_list, AllowListError),
]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
@pytest.mark.parametrize(("name", "text", "reader", "error"), READERS, ids=[name for name, *_ in READERS])
def test_another_encoding_is_an_error_that_names_the_file_and_the_mend(
    tmp_path: Path, encoding: str, name: str, text: str, reader: Callable[[Path], object], error: type[Exception]
) -> None:
    path = tmp_path / name
    path.write_bytes(f"{text}# Gr\u00fc\u00dfe\n".encode(encoding))
    with pytest.raises(error, match=rf"{name}\b.* UTF-8.*save it as UTF-8"):
        reader(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_an_env_file_of_another_encoding_is_a_problem_that_shows_no_value(tmp_path: Path, encoding: str) -> None:
    (tmp_path / ".env").write_bytes("OPENAI_API_KEY=sk-secret-\u00fc\n".encode(encoding))
    found = read_env(tmp_path / ".env")
    assert found.values == {}
    assert "save it as UTF-8" in found.problems[0]
    assert "sk-secret" not in repr(found)


@given(st.text(st.characters(blacklist_characters="\r\0", blacklist_categories=["Cs"])))
def test_a_mark_and_line_ends_are_all_that_goes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "file"
    text = text.removeprefix("\ufeff")
    path.write_bytes(text.encode())
    plain = read_text_file(path)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_text_file(path) == plain == text
