"""Settings: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app


def load(folder: Path, settings: str = SETTINGS, **environ: str) -> Settings:
    return Settings.load(write_app(folder, settings), environ)


def refusal(folder: Path, settings: str = SETTINGS, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, settings, **environ)
    return str(caught.value)


def test_money_is_read_as_whole_micro_dollars(tmp_path: Path) -> None:
    for written, micro in {'"0.50"': 500_000, '"0.000001"': 1, "2": 2_000_000, "0.1": 100_000, '"1e3"': 10**9}.items():
        settings = load(tmp_path, SETTINGS.replace('"0.50"', written))
        assert settings.plans["free"].daily_usd == micro


@pytest.mark.parametrize("written", ['"-1"', '"0.0000001"', '"nan"', '"inf"', '"a lot"', "true", "[1]", '""'])
def test_an_amount_that_is_none_is_refused(tmp_path: Path, written: str) -> None:
    assert "plans.free.daily_usd" in refusal(tmp_path, SETTINGS.replace('"0.50"', written))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[prompts]", "[promts]", "did you mean prompts"),
        ("chat = 1", "chat = 'one'", "prompts.chat is 'one'"),
        ("daily_usd", "daly_usd", "did you mean plans.free.daily_usd"),
        ("fallback", "falback", "did you mean models.openai.fallback"),
        ("max_output_tokens", "max_output_token", "did you mean limits.max_output_tokens"),
        ("= 100\n", "= 0\n", "limits.max_output_tokens is 0"),
        ('name = "Demo"', "", "app.name is missing"),
        ("[plans.free]", "[environment]\nmode = 'cloud'\n[plans.free]", "environment"),
        ("[plans.free]", "[cloud]\ndatabase = 'mine'\n[plans.free]", "cloud.database is 'mine'"),
        ("[plans.free]", "[cloud]\ndatabase_id = 'demo-2'\n[plans.free]", 'goes with cloud.database = "dedicated"'),
        (
            *("[plans.free]", "[cloud]\ndatabase = 'dedicated'\ndatabase_id = 'other-2'\n[plans.free]"),
            "it has to begin with 'demo-'",
        ),
        ("[plans.free]", "[cloud]\ndatabase_id = 'Demo_2'\n[plans.free]", "cloud.database_id is 'Demo_2'"),
    ],
)
def test_a_key_that_is_wrong_is_named_with_its_mend(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in refusal(tmp_path, SETTINGS.replace(old, new))


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, SETTINGS.replace("fallback", "falback").replace("[prompts]", "[promts]"))
    assert "falback" in said
    assert "promts" in said


def test_a_folder_without_settings_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not there"):
        Settings.load(tmp_path / "firelaunch.toml", {})


def test_a_laptop_without_a_key_is_offline_and_one_with_a_key_is_not(tmp_path: Path) -> None:
    assert load(tmp_path).provider == "offline"
    assert load(tmp_path).choice.chat == "offline"
    with_key = load(tmp_path, OPENAI_API_KEY="k")
    assert (with_key.provider, with_key.choice.all()) == ("openai", ("gpt-5.4-mini", "gpt-5.4-nano", "gpt-5-mini"))
    own = load(tmp_path, OPENAI_BASE_URL="http://localhost:1/v1", OPENAI_MODEL="mine")
    assert (own.provider, own.choice.all()) == ("openai", ("mine",))


CLAUDE = SETTINGS + '\n[models.claude]\nchat = "claude-sonnet-5-5"\ncheap = "claude-haiku-5-5"\n'


def test_a_laptop_has_the_deployed_apps_provider_if_its_key_is_there_and_else_the_one_whose_key_is(
    tmp_path: Path,
) -> None:
    assert load(tmp_path, ANTHROPIC_API_KEY="k").provider == "offline"  # no models of Claude's are named
    here = load(tmp_path, CLAUDE, ANTHROPIC_API_KEY="k")
    assert (here.provider, here.choice.chat) == ("claude", "claude-sonnet-5-5")
    both = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "OPENAI_MODEL": "mine"}
    assert load(tmp_path, CLAUDE, **both).choice.chat == "mine"
    deployed = CLAUDE.replace('provider = "openai"', 'provider = "claude"')
    assert load(tmp_path, deployed, **both).choice.chat == "claude-sonnet-5-5"


def test_claude_in_the_cloud_needs_its_key_and_embeds_on_vertex_ai(tmp_path: Path) -> None:
    deployed = CLAUDE.replace('provider = "openai"', 'provider = "claude"')
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345"}
    with pytest.raises(SettingsError, match="ANTHROPIC_API_KEY is not set"):
        load(tmp_path, deployed, **cloud)
    settings = load(tmp_path, deployed, ANTHROPIC_API_KEY="k", **cloud)
    assert (settings.provider, settings.embedding.kind) == ("claude", "vertex")


def test_the_key_is_in_no_text_that_settings_make(tmp_path: Path) -> None:
    settings = load(tmp_path, OPENAI_API_KEY="sk-very-secret", ANTHROPIC_API_KEY="sk-ant-very-secret")
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.environment)):
        assert "very-secret" not in text


AZURE = "https://own.openai.azure.com/openai/v1/?api-version=1"
SERVER = f"[models.openai]\nbase_url = '{AZURE}'\napi_key_header = 'api-key'\n"


def test_another_server_is_named_in_the_settings_and_overridden_by_the_environment(tmp_path: Path) -> None:
    """A server of the environment's is sent its key where OpenAI's is, unless the settings name its header alone."""
    named = SETTINGS.replace("[models.openai]\n", SERVER)
    header = SETTINGS.replace("[models.openai]\n", "[models.openai]\napi_key_header = 'api-key'\n")
    other, lan, sidecar = "https://openrouter.ai/api/v1", "http://192.168.0.7:1234/v1", "http://127.0.0.1:11434/v1"
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k", "K_SERVICE": "s"}
    for settings, environ, server in [
        (SETTINGS, {}, (None, "Authorization")),
        (named, {}, (AZURE, "api-key")),
        (named, cloud, (AZURE, "api-key")),
        (named, {**cloud, "OPENAI_BASE_URL": other}, (other, "Authorization")),
        (named, {"OPENAI_BASE_URL": AZURE}, (AZURE, "api-key")),
        (header, {"OPENAI_BASE_URL": other}, (other, "api-key")),
        (SETTINGS, {"OPENAI_BASE_URL": lan}, (lan, "Authorization")),
        (SETTINGS, {**cloud, "OPENAI_BASE_URL": sidecar}, (sidecar, "Authorization")),
    ]:
        assert load(tmp_path, settings, **environ).openai_server == server


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:11434/v1", "write it as https://"),
        ("api.example.com/v1", "write it as https://"),
        ("ftp://api.example.com/v1", "write it as https://"),
        ("https:///v1", "write it as https://"),
        ("https://api.example.com:port/v1", "write it as https://"),
        ("https://[::1/v1", "write it as https://"),
        ("https://api.example.com/v1\n", "line break"),
        ("https://api.example.com/ v1", "a space"),
        ("https://me:password@api.example.com/v1", "take them out"),
        ("https://api.example.com/v1#key", "after #"),
        ("https://api.example.com/v1/chat/completions", "take that off"),
        ("https://api.example.com/v1/chat/completions/?api-version=1", "take that off"),
    ],
)
def test_a_base_url_that_cannot_be_is_refused_with_its_mend_and_without_its_secrets(
    tmp_path: Path, url: str, says: str
) -> None:
    written = SETTINGS.replace("[models.openai]\n", f"[models.openai]\nbase_url = {json.dumps(url)}\n")
    for name, said in {
        "OPENAI_BASE_URL": refusal(tmp_path, OPENAI_BASE_URL=url),
        "models.openai.base_url": refusal(tmp_path, written),
    }.items():
        assert name in said
        assert says in said
        assert "password" not in said.replace("a user or a password", "")


@pytest.mark.parametrize("url", ["http://api.example.com/v1", "http://10.0.0.7/v1", "http://localhost.example.com/v1"])
def test_in_the_cloud_no_key_goes_over_a_network_unencrypted(tmp_path: Path, url: str) -> None:
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k", "K_SERVICE": "s"}
    assert "write https://" in refusal(tmp_path, OPENAI_BASE_URL=url, **cloud)
    assert load(tmp_path, OPENAI_BASE_URL=url).openai_server.base_url == url


def test_a_header_that_is_none_is_refused(tmp_path: Path) -> None:
    for header in ("", "api key", "api-key:", "x\\ny"):
        written = SETTINGS.replace("[models.openai]\n", f'[models.openai]\napi_key_header = "{header}"\n')
        assert "models.openai.api_key_header" in refusal(tmp_path, written)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(Exception, match="frozen"):
        settings.app.id = "other"  # type: ignore[misc]


def test_the_environment_names_the_project_and_the_data_folder(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOGLE_CLOUD_PROJECT="p-12345", FIRELAUNCH_DATA="/elsewhere")
    assert settings.cloud.project == "p-12345"
    assert settings.environment.data == Path("/elsewhere")
    assert load(tmp_path).environment.data == tmp_path / ".firelaunch"


@pytest.mark.parametrize(
    ("cloud", "database"),
    [
        ("", "(default)"),
        ("database = 'shared'", "(default)"),
        ("database = 'dedicated'", "demo"),
        ("database = 'dedicated'\ndatabase_id = 'demo-20261128-2215'", "demo-20261128-2215"),
    ],
)
def test_an_app_has_the_shared_database_its_own_or_one_that_a_restore_made(
    tmp_path: Path, cloud: str, database: str
) -> None:
    assert load(tmp_path, f"{SETTINGS}\n[cloud]\n{cloud}\n").database == database
