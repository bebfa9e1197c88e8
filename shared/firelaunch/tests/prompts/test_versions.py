"""Prompt files: who gets which version, what stands above the text, and that a released one stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.metering.call_records import calls_of_request
from firelaunch.prompts.lock import LOCK, lock
from firelaunch.prompts.versions import Prompts
from firelaunch.settings.app import PromptChoice
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.models import ModelServer
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chat@1.md").write_text("Old, ${name}.\n", encoding="utf-8")
    (tmp_path / "chat@2.md").write_text("Grüße, ${name}: {braces} $5 ${name}\n", encoding="utf-8")
    return tmp_path


def choose(version: int, **rollout: int) -> dict[str, PromptChoice]:
    return {"chat": PromptChoice(version=version, rollout={int(k[1:]): percent for k, percent in rollout.items()})}


def test_the_settings_pick_the_version(folder: Path) -> None:
    assert Prompts(folder, choose(1)).get("chat").render(name="Ada") == "Old, Ada."
    newer = Prompts(folder, choose(2)).get("chat")
    assert newer.render(name="Ada") == "Grüße, Ada: {braces} $5 Ada"
    assert newer.id == "chat@2"


def test_a_call_may_ask_for_one_version_by_name(folder: Path) -> None:
    assert Prompts(folder, choose(1)).get("chat@2", "ada").id == "chat@2"
    for absent in ("chat@3", "chat@", "chat@../chat@1", "title@1"):
        with pytest.raises(SettingsError):
            Prompts(folder, choose(1)).get(absent)


def test_what_a_value_holds_is_not_filled_in_again(folder: Path) -> None:
    assert Prompts(folder, choose(1)).get("chat").render(name="${name} ${other}") == "Old, ${name} ${other}."


def test_a_version_without_a_file_a_prompt_without_a_version_and_a_place_without_a_value_are_refused(
    folder: Path,
) -> None:
    with pytest.raises(SettingsError, match="chat is 3"):
        Prompts(folder, choose(3))
    with pytest.raises(SettingsError, match="chat is 7"):
        Prompts(folder, choose(1, v7=1))
    with pytest.raises(SettingsError, match=r"prompts\.title is missing"):
        Prompts(folder, choose(1)).get("title")
    with pytest.raises(SettingsError, match=r"\$\{name\}"):
        Prompts(folder, choose(1)).get("chat").render(other="x")


UIDS = [f"user-{number}" for number in range(2000)]


def test_a_rollout_reaches_about_its_share_and_growing_it_takes_nobody_out(folder: Path) -> None:
    before: set[str] = set()
    for percent in (0, 1, 10, 50, 100):
        prompts = Prompts(folder, choose(1, v2=percent))
        reached = {uid for uid in UIDS if prompts.get("chat", uid).version == 2}
        assert before <= reached
        assert abs(len(reached) / len(UIDS) * 100 - percent) < 3
        before = reached


def test_two_prompts_try_their_new_versions_on_different_users(folder: Path) -> None:
    for version in (1, 2):
        (folder / f"title@{version}.md").write_text("Title.")
    choices = choose(1, v2=50)
    prompts = Prompts(folder, choices | {"title": choices["chat"]})
    assert any(prompts.get("chat", uid).version != prompts.get("title", uid).version for uid in UIDS)


@given(uid=st.text(min_size=1, max_size=128).filter(lambda uid: uid.isprintable()), percent=st.integers(0, 100))
def test_one_user_always_gets_the_same_version(uid: str, percent: int, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "sticky"
    folder.mkdir(exist_ok=True)
    for version in (1, 2):
        (folder / f"chat@{version}.md").write_text(f"Version {version}.")
    choices = choose(1, v2=percent)
    assert Prompts(folder, choices).get("chat", uid) == Prompts(folder, choices).get("chat", uid)


FRONT = """+++
model = "gpt-5.4-nano"
temperature = 0.2
notes = "Shorter answers."
[schema]
type = "object"
+++
Be brief.
+++
"""


def test_front_matter_is_read_and_not_told_to_the_model(folder: Path) -> None:
    (folder / "chat@3.md").write_text(FRONT)
    prompt = Prompts(folder, choose(3)).get("chat")
    assert (prompt.model, prompt.temperature, prompt.notes) == ("gpt-5.4-nano", 0.2, "Shorter answers.")
    assert prompt.schema == {"type": "object"}
    assert prompt.render() == "Be brief.\n+++"
    assert Prompts(folder, choose(3), own_models=False).get("chat").model is None


@pytest.mark.parametrize("bad", ["modle = 'x'", "temperature = 'hot'", "temperature = 3.0", "model = ", "schema = 'x'"])
def test_front_matter_that_does_not_hold_is_refused_with_its_file(folder: Path, bad: str) -> None:
    (folder / "chat@3.md").write_text(f"+++\n{bad}\n+++\nText.")
    with pytest.raises(SettingsError, match=r"chat@3\.md"):
        Prompts(folder, choose(1))


def test_a_locked_prompt_is_not_changed_and_a_new_one_is_added(folder: Path) -> None:
    assert lock(folder) == ["chat@1.md", "chat@2.md"]
    held = (folder / LOCK).read_text()
    (folder / "chat@1.md").write_bytes(b"Old, ${name}.\r\n")
    Prompts(folder, choose(1), released=True)
    (folder / "chat@3.md").write_text("New.")
    with pytest.raises(SettingsError, match=r"does not hold chat@3.*lock-prompts"):
        Prompts(folder, choose(1, v3=5), released=True)
    Prompts(folder, choose(3))
    (folder / "chat@1.md").write_text("Old, ${name}!")
    for refused in (lambda: lock(folder), lambda: Prompts(folder, choose(2)), lambda: Prompts(folder, {})):
        with pytest.raises(SettingsError, match=r"chat@1\.md was changed after its release.*chat@4\.md"):
            refused()
    assert (folder / LOCK).read_text() == held
    (folder / "chat@1.md").unlink()
    lock(folder)
    assert held.splitlines()[0] in (folder / LOCK).read_text()  # the number stays taken


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", "abc  chat@1.md", "0" * 64 + "  chat@1.md\n" + "1" * 64 + "  chat@1.md"]
)
def test_a_lock_that_cannot_be_read_is_refused(folder: Path, line: str) -> None:
    (folder / LOCK).write_text(line + "\n")
    with pytest.raises(SettingsError, match="take the file back"):
        Prompts(folder, choose(1))


ROLLOUT = SETTINGS.replace("[prompts]\nchat = 1", "[prompts.chat]\nversion = 1\nrollout = { 2 = 50 }")


def test_each_user_is_answered_by_their_version_and_the_record_names_it(
    make_app: Any, model: ModelServer, tmp_path: Path
) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app" / "app" / "prompts" / "chat@2.md").write_text(
        '+++\nmodel = "gpt-5.4"\ntemperature = 0.5\n+++\nSecond ${app_name}'
    )
    app = make_app(ROLLOUT, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    seen = set()
    for uid in UIDS[:12]:
        user = sign_in(app, uid)
        answer = user.send(user.new_chat(), "Hello").get_json()
        told = model.requests[-1]
        second = told["messages"][0]["content"].startswith("Second")
        (call,) = calls_of_request(app.services.store, app.services.store.scope, answer["request_id"])
        assert call["prompt"] == ("chat@2" if second else "chat@1")
        assert told["model"] == call["model"] == ("gpt-5.4" if second else "gpt-5.4-mini")
        assert told.get("temperature") == (0.5 if second else None)
        assert call["cost_micro_usd"] > 0
        seen.add(second)
    assert seen == {True, False}


def test_a_prompts_model_without_a_price_is_refused_at_boot(make_app: Any, model: ModelServer, tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app" / "app" / "prompts" / "chat@2.md").write_text('+++\nmodel = "imagined"\n+++\nHi')
    with pytest.raises(SettingsError, match=r"^the prompt chat@2 names 'imagined'"):
        make_app(ROLLOUT, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    make_app(ROLLOUT)  # on a laptop without a key one model stands for all


def test_over_the_soft_cap_the_plans_cheap_model_answers_whatever_the_prompt_says(
    make_app: Any, model: ModelServer, tmp_path: Path
) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app" / "app" / "prompts" / "chat@2.md").write_text('+++\nmodel = "gpt-5.4"\n+++\nHi')
    settings = SETTINGS.replace("chat = 1", "chat = 2") + "cheaper_model_at_percent = 0\n"
    ada = sign_in(make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    ada.send(ada.new_chat(), "Hello")
    assert model.models_called() == ["gpt-5.4-nano"]
