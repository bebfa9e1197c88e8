"""Firebase Authentication is set up, and users sign in: requests against the server that plays Google's APIs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.commands import main
from firelaunch_cli.deploy.gcloud import CommandFailed, Request, Tools
from firelaunch_cli.deploy.plan import preflight
from firelaunch_cli.deploy.resources import APIS, Place
from firelaunch_cli.deploy.sign_in import GoogleClient, permissions, sign_in
from firelaunch_cli.deploy.steps import Step, explain, perform
from firelaunch_cli.deploy.web_app import web_app, web_config
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import ROOT

PLACE = Place("demo-project", "europe-west1", "1234")
CLIENT = GoogleClient("a-client.apps.googleusercontent.com", "GOCSPX-" + "not-a-real-secret-of-anybody")
PAGE = "https://demo-project.web.app/"


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS}
        cloud.account.firebase = True
        yield cloud
        assert cloud.unexpected == []


@pytest.fixture
def said() -> list[str]:
    """The lines that a deploy shows."""
    return []


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path, said: list[str]) -> Tools:
    return Tools({**os.environ, **cloud.environ(tmp_path / "home")}, said.append, lambda _: None, TOKEN)


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """Settings of an app, of which these lines are of [identity], and these web pages call it."""

    def made(*identity: str, origins: tuple[str, ...] = ()) -> Settings:
        more = "\n".join(["[identity]", *identity, "[cors]", f"origins = {json.dumps(origins)}", ""])
        return Settings.load(write_app(tmp_path, SETTINGS + more), {})

    return made


def never(question: str) -> bool:
    raise AssertionError(question)


class Questions(list[str]):
    """Agrees, and keeps what was asked."""

    def __call__(self, question: str) -> bool:
        self.append(question)
        return True


NOBODYS = GoogleClient()


def deploy(tools: Tools, settings: Settings, agree: Any = lambda _: True, client: GoogleClient = NOBODYS) -> int:
    """All steps; how many requests changed something."""
    steps = [*sign_in(PLACE, settings, client), web_app(PLACE, "demo")]
    return sum(perform(step, tools, agree) for step in steps)


def client_says(cloud: GoogleCloud, method: str, **body: Any) -> str:
    """What a client's request is refused with; empty where it is not."""
    key = cloud.firebase.key("demo") if cloud.firebase.web_apps else "none"
    url = f"{cloud.url}/identitytoolkit.googleapis.com/v1/accounts:{method}?key={key}"
    answer = requests.post(url, json=body, timeout=10)
    return "" if answer.ok else str(answer.json()["error"]["message"])


def link(cloud: GoogleCloud, page: str = PAGE, **more: str) -> str:
    return client_says(
        cloud, "sendOobCode", requestType="EMAIL_SIGNIN", email="ada@example.com", continueUrl=page, **more
    )


def test_users_sign_in_once_a_deploy_has_set_authentication_up_and_not_before(
    cloud: GoogleCloud, tools: Tools, app: Any
) -> None:
    perform(web_app(PLACE, "demo"), tools, never)
    assert link(cloud) == "CONFIGURATION_NOT_FOUND"
    perform(sign_in(PLACE, app(), NOBODYS)[0], tools, lambda _: True)
    assert link(cloud) == "OPERATION_NOT_ALLOWED"
    deploy(tools, app('sign_in = ["email_link"]'))
    assert link(cloud) == ""
    assert client_says(cloud, "signUp") == "ADMIN_ONLY_OPERATION", "nothing else is switched on"


def test_the_first_time_is_asked_about_and_nothing_is_done_without_an_answer(
    cloud: GoogleCloud, tools: Tools, app: Any
) -> None:
    settings = app('sign_in = ["email_link"]')
    with pytest.raises(CommandFailed, match="nobody agreed") as failed:
        deploy(tools, settings, lambda _: False)
    assert "--yes" in failed.value.mend
    assert cloud.sign_in.config is None
    asked = Questions()
    assert deploy(tools, settings, asked) == 3
    assert len(asked) == 1, "where nobody signs in yet, methods are not asked about one by one"
    assert "Nobody can sign in to apps of demo-project yet" in asked[0]
    assert max(map(len, asked[0].splitlines())) <= 80, asked
    assert deploy(tools, settings, never) == 0, "the same again changes nothing and asks nothing"


def test_a_project_in_which_people_sign_in_is_changed_only_by_agreement_and_nothing_goes(
    cloud: GoogleCloud, tools: Tools, app: Any
) -> None:
    deploy(tools, app('sign_in = ["password", "anonymous"]'))
    assert cloud.sign_in.config is not None
    cloud.sign_in.config["signIn"]["phoneNumber"]["enabled"] = True
    cloud.sign_in.config["authorizedDomains"].append("other.example.com")
    before = json.dumps(cloud.sign_in.config)
    assert link(cloud) == "OPERATION_NOT_ALLOWED", "where a password is required, no link is sent"
    more = app('sign_in = ["email_link"]', origins=("https://app.example.com",))
    with pytest.raises(CommandFailed, match="nobody agreed"):
        deploy(tools, more, lambda _: False)
    assert json.dumps(cloud.sign_in.config) == before
    asked = Questions()
    deploy(tools, more, asked)
    assert [question.partition("From now on ")[2] for question in asked] == [
        "users may sign in on app.example.com.",
        "people may sign in by e-mail links.",
    ]
    assert cloud.sign_in.config["signIn"]["phoneNumber"]["enabled"]
    assert cloud.sign_in.config["signIn"]["anonymous"]["enabled"]
    assert cloud.sign_in.config["authorizedDomains"][-2:] == ["other.example.com", "app.example.com"]
    assert link(cloud, "https://app.example.com/done") == ""
    assert link(cloud, "https://elsewhere.example.com/").startswith("UNAUTHORIZED_DOMAIN")


WAYS = ("email_link", "password", "anonymous", "google")


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(WAYS), unique=True),
    st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("email", "anonymous", "phoneNumber")}),
    st.booleans(),
    st.lists(st.sampled_from(["a.example.com", "b.example.com", "localhost"]), unique=True),
)
def test_a_deploy_switches_on_what_is_named_and_never_anything_off(
    wanted: list[str], on: dict[str, bool], required: bool, domains: list[str]
) -> None:
    base = Settings.load(next((ROOT / "template").glob("*/firelaunch.toml")), {})
    settings = base.model_copy(
        update={
            "identity": base.identity.model_copy(update={"sign_in": tuple(wanted)}),
            "cors": base.cors.model_copy(update={"origins": ("https://b.example.com",)}),
        }
    )
    methods: dict[str, dict[str, bool]] = {name: {"enabled": True} for name, enabled in on.items() if enabled}
    if "email" in methods and required:
        methods["email"]["passwordRequired"] = True
    config: dict[str, Any] = {"signIn": methods, "authorizedDomains": domains}
    before = json.loads(json.dumps(config))
    for step in sign_in(PLACE, settings, CLIENT):
        if step.looks[0].url.endswith("/config"):  # type: ignore[union-attr]
            for change in step.lacks([config, {}]):
                assert isinstance(change, Request)
                merge(config, dict(change.body or {}))
    email = config["signIn"].get("email", {})
    assert "email_link" not in wanted or (email.get("enabled") and not email.get("passwordRequired"))
    assert "password" not in wanted or email.get("enabled")
    assert "anonymous" not in wanted or config["signIn"]["anonymous"]["enabled"]
    assert {*before["authorizedDomains"], "b.example.com"} == {*config["authorizedDomains"]}
    for name, method in before["signIn"].items():
        assert not method.get("enabled") or config["signIn"][name]["enabled"]
    if not {"email_link", "password"} & {*wanted}:
        assert config["signIn"].get("email", {}) == before["signIn"].get("email", {})


def merge(there: dict[str, Any], changes: dict[str, Any]) -> None:
    """What a PATCH does, whose mask names each field that is given."""
    for name, value in changes.items():
        if isinstance(value, dict):
            merge(there.setdefault(name, {}), value)
        else:
            there[name] = value


@pytest.mark.parametrize(
    ("origins", "domains"),
    [
        (("https://app.example.com", "https://app.example.com:8443"), ["app.example.com"]),
        (("http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080", "*"), []),
        (("https://a_b.example.com", "capacitor://localhost"), []),
        (("https://xn--bcher-kva.example", "https://a.b-c.co.uk"), ["xn--bcher-kva.example", "a.b-c.co.uk"]),
    ],
)
def test_web_pages_that_users_sign_in_on_are_domains_and_neither_this_machine_nor_a_pattern(
    origins: tuple[str, ...], domains: list[str], cloud: GoogleCloud, tools: Tools, app: Any
) -> None:
    deploy(tools, app('sign_in = ["email_link"]', origins=origins))
    assert cloud.sign_in.config is not None
    assert cloud.sign_in.config["authorizedDomains"][3:] == domains


# Google


def test_google_waits_for_the_founders_client_and_the_deploy_goes_on_without_it(
    cloud: GoogleCloud, tools: Tools, app: Any, said: list[str]
) -> None:
    settings = app('sign_in = ["email_link", "google"]')
    deploy(tools, settings)
    assert link(cloud) == ""
    assert client_says(cloud, "createAuthUri", providerId="google.com").startswith("OPERATION_NOT_ALLOWED")
    text = "\n".join(said)
    assert text.startswith("warning: nobody can sign in with Google yet.")
    assert "https://console.cloud.google.com/auth/clients?project=demo-project" in text
    assert "https://demo-project.firebaseapp.com/__/auth/handler" in text
    assert "GOOGLE_SIGN_IN_CLIENT_ID and GOOGLE_SIGN_IN_CLIENT_SECRET" in text
    assert max(map(len, said)) <= 80
    said.clear()
    deploy(tools, settings, client=GoogleClient(CLIENT.id, ""))
    assert "GOOGLE_SIGN_IN_CLIENT_SECRET" in said[-1]
    assert "GOOGLE_SIGN_IN_CLIENT_ID" not in said[-1]
    said.clear()
    assert deploy(tools, settings, never, CLIENT) == 1
    assert client_says(cloud, "createAuthUri", providerId="google.com") == ""
    assert said == []
    assert deploy(tools, settings, never) == 0, "later deploys need no client"
    assert said == []


def test_a_google_client_that_is_there_is_kept_and_one_that_is_off_is_asked_about(
    cloud: GoogleCloud, tools: Tools, app: Any, said: list[str]
) -> None:
    settings = app('sign_in = ["google"]')
    deploy(tools, settings, client=CLIENT)
    other = GoogleClient("another.apps.googleusercontent.com", "x")
    assert deploy(tools, settings, never, other) == 0
    assert "keeps the OAuth client that it has" in said[0]
    cloud.sign_in.idps["", "google.com"]["enabled"] = False
    asked = Questions()
    assert deploy(tools, settings, asked) == 1
    assert asked == ["Google sign-in is switched off in demo-project. The deploy switches it on."]
    assert cloud.sign_in.idps["", "google.com"]["clientId"] == CLIENT.id


def test_the_clients_secret_is_in_no_plan_and_in_no_error(cloud: GoogleCloud, tools: Tools, app: Any) -> None:
    settings = app('sign_in = ["google"]')
    steps = sign_in(PLACE, settings, CLIENT)
    plan = "\n".join(line for step in steps for line in explain(step))
    assert "idpId=google.com" in plan
    assert CLIENT.id in plan
    assert "NOT_SHOWN" in plan
    cloud.denied = {"firebaseauth.configs.update"}
    perform(steps[0], tools, lambda _: True)
    with pytest.raises(CommandFailed) as failed:
        perform(steps[1], tools, never)
    assert "roles/firebaseauth.admin" in failed.value.mend
    for shown in (plan, str(failed.value), failed.value.mend, repr(CLIENT), repr(list(steps[1].lacks([None])))):
        assert CLIENT.secret not in shown


# Tenants


def test_an_app_of_a_tenant_has_its_ways_to_sign_in_there_and_the_project_gets_none(
    cloud: GoogleCloud, tools: Tools, app: Any
) -> None:
    settings = app('tenant = "school-x1y2"', 'sign_in = ["email_link", "anonymous", "google"]')
    with pytest.raises(CommandFailed, match="demo-project has no such tenant") as failed:
        deploy(tools, settings)
    assert "https://console.cloud.google.com/customer-identity/tenants?project=demo-project" in failed.value.mend
    cloud.sign_in.tenants["school-x1y2"] = {"displayName": "school"}
    deploy(tools, settings, client=CLIENT)
    assert link(cloud, tenantId="school-x1y2") == ""
    assert client_says(cloud, "signUp", tenantId="school-x1y2") == ""
    assert client_says(cloud, "createAuthUri", providerId="google.com", tenantId="school-x1y2") == ""
    assert link(cloud) == "OPERATION_NOT_ALLOWED"
    assert client_says(cloud, "createAuthUri", providerId="google.com").startswith("OPERATION_NOT_ALLOWED")
    assert deploy(tools, settings, never) == 0
    cloud.sign_in.tenants["school-x1y2"]["disableAuth"] = True
    with pytest.raises(CommandFailed, match="tenant school-x1y2 is disabled"):
        deploy(tools, settings)


def test_a_tenants_permissions_are_asked_for_where_there_is_one(cloud: GoogleCloud, tools: Tools, app: Any) -> None:
    assert permissions(app()) == {}
    wanted = permissions(app('tenant = "school-x1y2"'))
    assert {*wanted} == {"identitytoolkit.tenants.get", "identitytoolkit.tenants.update"}
    cloud.account.lacks = {"identitytoolkit.tenants.update"}
    (step,) = [step for step in preflight(PLACE, (), more=wanted) if step.title.startswith("permissions")]
    with pytest.raises(CommandFailed, match=r"roles/identitytoolkit\.admin"):
        perform(step, tools, never)


# What Google refuses, and what takes a while


def test_what_was_set_up_a_moment_ago_is_waited_for(
    cloud: GoogleCloud, tools: Tools, app: Any, said: list[str]
) -> None:
    settings = app('sign_in = ["email_link"]', origins=("https://app.example.com",))
    perform(sign_in(PLACE, settings, NOBODYS)[0], tools, lambda _: True)
    cloud.account.late["auth"] = 2
    for step in sign_in(PLACE, settings, NOBODYS)[1:]:
        perform(step, tools, never)
    reason = "Firebase Authentication was set up and does not answer everywhere yet"
    assert said == [f"waiting, 2 minutes at most: {reason}"]
    assert cloud.sign_in.config is not None
    assert "localhost" in cloud.sign_in.config["authorizedDomains"], "domains that are there already stay"
    perform(web_app(PLACE, "demo"), tools, never)
    assert link(cloud) == ""


def test_somebody_else_may_set_it_up_first(cloud: GoogleCloud, tools: Tools, app: Any) -> None:
    (step, *_) = sign_in(PLACE, app(), NOBODYS)
    (initialize,) = step.lacks([None])
    assert isinstance(initialize, Request)
    tools.request(initialize)
    tools.request(initialize)
    assert cloud.sign_in.config is not None


@pytest.mark.parametrize(
    ("refuse", "mend"),
    [
        (lambda cloud: cloud.account.apis.discard("identitytoolkit.googleapis.com"), "gcloud services enable identity"),
        (lambda cloud: cloud.denied.add("firebaseauth.configs.create"), "roles/firebaseauth.admin"),
        (lambda cloud: cloud.denied.add("firebaseauth.configs.get"), "roles/firebaseauth.admin"),
        (lambda cloud: setattr(cloud.account, "billing", False), "billing account"),
    ],
    ids=["the API is off", "no right to set up", "no right to look", "no billing"],
)
def test_what_google_refuses_ends_with_its_mend(
    cloud: GoogleCloud, tools: Tools, app: Any, refuse: Any, mend: str
) -> None:
    refuse(cloud)
    with pytest.raises(CommandFailed) as failed:
        deploy(tools, app('sign_in = ["email_link"]'))
    assert mend in failed.value.mend
    assert "https://console.firebase.google.com/project/demo-project/authentication" in failed.value.mend
    assert cloud.sign_in.config is None


def test_an_app_that_names_no_way_to_sign_in_is_warned_where_there_is_none(
    cloud: GoogleCloud, tools: Tools, app: Any, said: list[str]
) -> None:
    deploy(tools, app())
    assert said[0] == "warning: no way to sign in is switched on; name one in firelaunch.toml:"
    said.clear()
    deploy(tools, app('sign_in = ["google"]'), client=CLIENT)
    deploy(tools, app())
    assert said == []


# The web app


def test_an_app_has_one_web_app_and_its_config_is_what_the_sdk_takes(cloud: GoogleCloud, tools: Tools) -> None:
    with pytest.raises(CommandFailed, match="no Firebase web app demo") as failed:
        web_config(tools, PLACE, "demo")
    assert failed.value.mend == "firelaunch deploy demo"
    cloud.firebase.polls = 3
    for app in ("demo", "demo", "demo-2", "demo"):
        perform(web_app(PLACE, app), tools, never)
    assert sorted(cloud.firebase.web_apps.values()) == ["demo", "demo-2"]
    assert web_config(tools, PLACE, "demo") == {
        "apiKey": cloud.firebase.key("demo"),
        "authDomain": "demo-project.firebaseapp.com",
        "projectId": "demo-project",
        "storageBucket": "demo-project.firebasestorage.app",
        "messagingSenderId": "1234",
        "appId": "1:1234:web:000001",
    }


def test_what_a_deploy_begins_at_firebase_is_waited_for(cloud: GoogleCloud, tools: Tools, said: list[str]) -> None:
    cloud.account.firebase = False
    cloud.firebase.polls = 4
    (step,) = [step for step in preflight(PLACE, ()) if step.title == "it is a Firebase project"]
    perform(step, tools, never)
    assert cloud.requests[-1].startswith("GET firebase.googleapis.com/v1beta1/operations/workflows/")
    assert cloud.account.firebase
    assert said == ["waiting, 5 minutes at most: demo-project:addFirebase goes on at Google"]
    cloud.firebase.polls = 1_000
    with pytest.raises(CommandFailed, match="has not come to its end"):
        perform(web_app(PLACE, "demo"), tools, never)


def test_too_many_web_apps_and_missing_rights_name_their_mends(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.firebase.web_apps = {f"1:1234:web:{n:06x}": f"app-{n}" for n in range(30)}
    with pytest.raises(CommandFailed) as failed:
        perform(web_app(PLACE, "demo"), tools, never)
    assert "https://console.firebase.google.com/project/demo-project/settings/general" in failed.value.mend
    cloud.denied = {"firebase.clients.list"}
    with pytest.raises(CommandFailed) as failed:
        perform(web_app(PLACE, "demo"), tools, never)
    assert "roles/firebase.admin" in failed.value.mend


def test_a_command_prints_the_config_and_nothing_else(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.environ(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    monkeypatch.setattr(Tools, "token", lambda _: TOKEN)
    monkeypatch.setattr(Tools, "check_installed", lambda _: None)
    write_app(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(main, ["web-config", "demo"])
    assert refused.exit_code == 1
    assert "firelaunch deploy demo" in refused.output
    perform(web_app(PLACE, "demo"), tools, never)
    done = CliRunner().invoke(main, ["web-config", "demo"])
    assert json.loads(done.output)["apiKey"] == cloud.firebase.key("demo")


def mends_in_one_line(steps: list[Step]) -> bool:
    return all("\n" not in step.mend for step in steps)


def test_each_step_says_what_mends_it_in_one_line(app: Any) -> None:
    whole = app('sign_in = ["email_link", "google"]', origins=("https://a.example.com",))
    steps = [*sign_in(PLACE, whole, CLIENT), *sign_in(PLACE, app('tenant = "x"'), CLIENT), web_app(PLACE, "demo")]
    assert all(step.mend for step in steps)
    assert mends_in_one_line(steps)
