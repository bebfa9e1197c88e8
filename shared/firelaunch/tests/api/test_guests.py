"""Guests, who have no account: what they may do, who pays, and when they are guests no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pytest
from fakes.clocks import half_past_noon
from firelaunch.api.base import Body, caller, caller_services
from firelaunch.api.routes import Routes
from firelaunch.errors import SettingsError
from firelaunch.identity.app_check import AppCheck
from firelaunch.membership.guests import Guests
from firelaunch.scope import Scope
from firelaunch.server import app as server_app
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in, write_app
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.documented import watch

GUESTS = """
[plans.guest]
requests_per_minute = 3
daily_usd = "0.05"
documents = 1

[budget]
guests_daily_usd = "5"
"""
MakeApp = Callable[..., App]
ROOT = File(__file__).resolve().parents[4]


@pytest.fixture
def app(make_app: MakeApp) -> App:
    return make_app(SETTINGS + "groups = 1\n" + GUESTS, clock=half_past_noon)


def services_of(app: App) -> Any:
    return app.extensions["firelaunch"].services


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_without_a_plan_for_them_an_app_takes_no_guests(make_app: MakeApp) -> None:
    guest = sign_in(make_app(), "visitor", guest=True)
    assert code(guest.get("/v1/me")) == (403, "anonymous_account")


def test_a_guest_chats_and_has_documents_within_the_guests_plan(app: App) -> None:
    guest = sign_in(app, "visitor", guest=True)
    me = guest.get("/v1/me").get_json()
    assert (me["uid"], me["role"], me["plan"], me["email"]) == ("visitor", "guest", "guest", None)
    assert guest.upload("a.txt", b"The tower is 300 m high.").status_code == 202
    assert code(guest.upload("b.txt", b"More.")) == (409, "too_many_documents")
    chat = guest.new_chat()
    for _ in range(3):
        assert guest.send(chat, "Hello").status_code == 200
    assert code(guest.send(chat, "Hello")) == (429, "rate_limited")
    assert guest.get("/v1/usage").get_json()["plan"] == "guest"


def test_work_that_has_no_token_knows_a_guest_too(app: App) -> None:
    sign_in(app, "visitor", guest=True).get("/v1/me")
    sign_in(app, "ada").get("/v1/me")
    store, entitlements = services_of(app).store, services_of(app).metering.entitlements
    assert entitlements.of(store.get(Scope("demo", "visitor").root)).plan == "guest"
    assert entitlements.of(store.get(Scope("demo", "ada").root)).plan == "free"


def test_a_plan_that_somebody_granted_makes_a_guest_no_more_than_a_guest(app: App) -> None:
    guest = sign_in(app, "visitor", guest=True, plan="free")
    assert guest.get("/v1/me").get_json()["plan"] == "guest"


def test_a_guest_who_gets_an_account_keeps_everything_and_has_a_members_plan_from_the_next_token_on(app: App) -> None:
    guest = sign_in(app, "visitor", guest=True)
    chat = guest.new_chat()
    guest.send(chat, "Hello")
    spent = guest.get("/v1/usage").get_json()["cost_micro_usd"]
    member = sign_in(app, "visitor")
    assert member.get("/v1/me").get_json()["plan"] == "free"
    assert len(member.get(f"/v1/chats/{chat}").get_json()["messages"]) == 2
    assert member.get("/v1/usage").get_json()["cost_micro_usd"] == spent


def test_a_guests_token_from_before_the_account_makes_no_member_a_guest(app: App) -> None:
    guest, member = sign_in(app, "visitor", guest=True), sign_in(app, "visitor")
    guest.get("/v1/me")
    member.get("/v1/me")
    user = Scope("demo", "visitor")
    anew = Guests(services_of(app).store)  # as another instance, which remembers nobody
    with pytest.raises(Exception, match="from before") as refused:
        anew.enter(user, guest=True)
    assert getattr(refused.value, "code", "") == "unauthenticated"
    guest.get("/v1/me")  # this instance still remembers the guest, and changes nothing
    assert services_of(app).store.get(user.root).data["guest"] is False


def test_whoever_an_admin_removed_is_no_guest_either(app: App) -> None:
    user = Scope("demo", "visitor")
    services_of(app).store.commit([Set(user.removal(str(user.uid)), {"removed_at": services_of(app).clock()})])
    assert code(sign_in(app, "visitor", guest=True).get("/v1/me")) == (403, "removed")


def test_what_other_guests_and_members_have_is_out_of_a_guests_reach(app: App) -> None:
    ada, guest = sign_in(app, "ada"), sign_in(app, "visitor", guest=True)
    chat = ada.new_chat()
    assert code(guest.get(f"/v1/chats/{chat}")) == (404, "not_found")
    assert code(sign_in(app, "other", guest=True).get(f"/v1/chats/{chat}")) == (404, "not_found")
    assert code(guest.upload("l.txt", b"x", library="true")) == (403, "forbidden")


def test_a_guest_reads_and_spends_in_as_many_round_trips_as_a_member(app: App) -> None:
    """After the first request on an instance, which looks the guest up."""
    guest = sign_in(app, "visitor", guest=True)
    chat = guest.new_chat()
    store = services_of(app).store._ScopedStore__store
    trips: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get", "get_many", "read", "query", "commit"):
            real = getattr(store, name)
            patch.setattr(store, name, lambda *a, _r=real, _n=name, **k: (trips.append(_n), _r(*a, **k))[1])
        assert guest.send(chat, "Hello").status_code == 200
    assert trips == ["read", "commit", "commit"]


ALL_ROUTES = {(route.method, route.path): route for routes in server_app._routes() for route in routes.routes}


def test_the_documentation_says_of_each_route_whether_guests_may_call_it() -> None:
    page = (ROOT / "docs/guests.md").read_text()
    table = page.split("| route |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`]*)`", table))
    open_to_guests = {
        (method.upper(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path))
        for (method, path), route in ALL_ROUTES.items()
        if route.guests and not route.public
    }
    assert named == open_to_guests


def test_every_other_route_refuses_guests_before_it_looks_at_the_request(app: App) -> None:
    guest = sign_in(app, "visitor", guest=True)
    closed = [key for key, route in ALL_ROUTES.items() if not route.guests and not route.public]
    assert len(closed) > 15
    for method, path in closed:
        answer = guest._send(method.upper(), re.sub(r"<[^>]*>", "x", path), {}, {})
        assert code(answer) == (403, "anonymous_account"), (method, path)


def own_app(tmp_path: File, *routes: Routes, settings: str = SETTINGS + GUESTS, **parts: Any) -> App:
    loaded = Settings.load(write_app(tmp_path / "own", settings), {})
    services = replace(build(loaded, half_past_noon), **parts)
    app = App("own", routes=routes)
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    return app


class Question(Body):
    text: str = "Hello"


def test_an_apps_own_routes_refuse_guests_unless_they_say_otherwise(tmp_path: File) -> None:
    routes = Routes("meals")

    @routes.get("/meals")
    def meals() -> dict[str, str]:
        return {}

    @routes.get("/menu", guests=True)
    def menu() -> dict[str, str]:
        return {"who": caller().uid}

    app = own_app(tmp_path, routes)
    problems = watch(app)
    guest = sign_in(app, "visitor", guest=True)
    assert code(guest.get("/api/meals")) == (403, "anonymous_account")
    assert guest.get("/api/menu").get_json() == {"who": "visitor"}
    assert sign_in(app, "ada").get("/api/meals").status_code == 200
    assert code(guest.get("/api/nowhere")) == (404, "not_found")
    assert problems == []


def asking() -> Routes:
    routes = Routes("ask", public=True)

    @routes.post("/ask", calls_model=True)
    def ask(body: Question) -> dict[str, str]:
        answer = caller_services().llm.complete([{"role": "user", "content": body.text}])
        return {"answer": answer.data, "root": caller_services().store.scope.root}

    @routes.get("/plain")
    def plain() -> dict[str, str]:
        return {}

    return routes


def test_the_guests_plan_pays_for_a_model_that_a_public_route_calls(tmp_path: File) -> None:
    app = own_app(tmp_path, asking())
    problems = watch(app)
    client = app.test_client()
    answer = client.post("/api/ask", json={})
    assert answer.get_json()["root"] == "apps/demo", "all else is the app's"
    store = services_of(app).store
    (uid,) = store.ids("apps/demo/users")
    assert re.fullmatch(r"visitor~\d{1,4}", uid), "no address is kept"
    assert store.get(f"apps/demo/users/{uid}").data == {"guest": True}
    (record,) = [store.get(f"apps/demo/requests/{each}") for each in store.ids("apps/demo/requests")]
    assert (record.data["uid"], record.data["plan"]) == (uid, "guest")
    assert [client.post("/api/ask", json={}).status_code for _ in range(3)] == [200, 200, 429]
    assert problems == []


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "CF-Connecting-IP"])
def test_a_client_gets_no_second_budget_by_a_header(tmp_path: File, header: str) -> None:
    app = own_app(tmp_path, asking())
    server_app.trust_hops(app, 1)
    client = app.test_client()
    answers = []
    for number in range(4):
        headers = {"X-Forwarded-For": "203.0.113.7"}
        forged = f"198.51.100.{number}"
        headers[header] = f"{forged}, 203.0.113.7" if header == "X-Forwarded-For" else f"for={forged}"
        answers.append(client.post("/api/ask", json={}, headers=headers).status_code)
    assert answers == [200, 200, 200, 429]


def test_the_addresses_of_one_ipv6_network_are_one_visitor_and_other_addresses_are_others(tmp_path: File) -> None:
    app = own_app(tmp_path, asking())
    client = app.test_client()

    def ask(address: str) -> None:
        assert client.post("/api/ask", json={}, environ_base={"REMOTE_ADDR": address}).status_code == 200

    for last in range(3):
        ask(f"2001:db8::{last + 1}")
    assert len(list(services_of(app).store.ids("apps/demo/users"))) == 1
    ask("2001:db8:1::1")
    ask("192.0.2.1")
    ask("no address")
    assert len(list(services_of(app).store.ids("apps/demo/users"))) == 4


def test_a_public_route_that_calls_a_model_for_nobody_does_not_start(tmp_path: File) -> None:
    with pytest.raises(SettingsError, match=r"nobody pays .* \[plans.guest\]"):
        own_app(tmp_path, asking(), settings=SETTINGS)


def test_nobody_signs_in_under_a_name_that_visitors_are_counted_under(app: App) -> None:
    assert code(sign_in(app, "visitor~7").get("/v1/me")) == (401, "unauthenticated")
    assert code(sign_in(app, "visitor~7", guest=True).get("/v1/me")) == (401, "unauthenticated")


PROJECT, WEB = "demo-project", "1:1234:web:abcd"


def test_app_check_may_be_asked_of_guests_alone(tmp_path: File) -> None:
    wanted = f'\n[identity]\napp_check = ["{WEB}"]\napp_check_for = "guests"\n'
    with CertificateServer() as google:
        check = AppCheck(PROJECT, (WEB,), jwks_url=google.jwks_url)
        app = own_app(tmp_path, asking(), settings=SETTINGS + GUESTS + wanted, app_check=check)
        genuine = {"X-Firebase-AppCheck": google.app_check_token(PROJECT, WEB)}

        def me(user: User, headers: dict[str, str]) -> int:
            return user.client.get("/v1/me", headers={"Authorization": f"Bearer {user.token}", **headers}).status_code

        ada, guest = sign_in(app, "ada"), sign_in(app, "visitor", guest=True)
        assert (me(ada, {}), me(guest, {}), me(guest, genuine)) == (200, 401, 200)
        client = app.test_client()
        assert code(client.post("/api/ask", json={})) == (401, "app_check_failed")
        assert client.post("/api/ask", json={}, headers=genuine).status_code == 200
        assert client.get("/api/plain").status_code == 200


BAD = {
    '[app]\nplan = "guest"': r"app.plan is 'guest'",
    '[identity]\napp_check_for = "guests"': r"identity.app_check_for is 'guests'",
}


@pytest.mark.parametrize("line", BAD)
def test_settings_that_would_give_guests_more_do_not_start(tmp_path: File, line: str) -> None:
    section, _, _ = line.partition("\n")
    settings = SETTINGS.replace(section, line) if section in SETTINGS else f"{SETTINGS}\n{line}\n"
    with pytest.raises(SettingsError, match=BAD[line]):
        Settings.load(write_app(tmp_path, settings + GUESTS), {})


def test_a_job_of_a_guests_document_runs_for_the_guest(app: App) -> None:
    guest = sign_in(app, "visitor", guest=True)
    document = guest.upload("a.txt", b"The tower is 300 m high.").get_json()["id"]
    run_jobs(app)
    assert guest.document(document)["status"] == "ready"
    found = guest.post("/v1/search", {"query": "tower"}).get_json()
    assert found["passages"][0]["document_id"] == document


def test_what_all_guests_cost_together_is_bounded_and_members_do_not_feel_it(tmp_path: File) -> None:
    spare = GUESTS.replace('guests_daily_usd = "5"', 'guests_daily_usd = "0.000001"')
    priced = SETTINGS + spare + '\n[prices.offline]\ninput = "1"\noutput = "1"\n'
    app = own_app(tmp_path, asking(), settings=priced)
    guest, ada = sign_in(app, "visitor", guest=True), sign_in(app, "ada")
    assert code(guest.send(guest.new_chat(), "Hello")) == (429, "app_budget_exceeded")
    assert code(app.test_client().post("/api/ask", json={})) == (429, "app_budget_exceeded")
    assert ada.send(ada.new_chat(), "Hello").status_code == 200
    with pytest.raises(SettingsError, match="guests_daily_usd"):
        Settings.load(write_app(tmp_path / "open", SETTINGS + GUESTS.partition("[budget]")[0]), {})
