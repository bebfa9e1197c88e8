"""No route is without a limit for each user, and each limit says when to try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from firelaunch import Routes
from firelaunch.api.routes import Route
from firelaunch.api.user_limits import UserLimits
from firelaunch.errors import RateLimited
from firelaunch.identity import Caller
from firelaunch.server.app import _PUBLIC, App, _routes, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from werkzeug.test import TestResponse

ALL = [(routes.endpoint(route), route) for routes in _routes() for route in routes.routes]
QUERY = {"query": "tea"}

Make = Callable[..., App]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Any] = []

    def make_app(more: str = "", *routes: Routes, limits: str = "") -> App:
        settings = SETTINGS.replace("[limits]", f"[limits]\n{limits}") + more
        services = build(Settings.load(write_app(tmp_path / "app", settings), {}))
        made.append(services)
        app = App("limited", routes=routes)
        init_app(app, services, lambda _: ())
        return app

    yield make_app
    for services in made:
        services.store.close()


def is_limited(answer: TestResponse, most_seconds: int) -> bool:
    """Whether it is a 429 that says when to try again."""
    if answer.status_code != 429:
        return False
    assert answer.get_json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answer.headers["Retry-After"]) <= most_seconds
    return True


@pytest.mark.parametrize(("endpoint", "route"), ALL, ids=[endpoint for endpoint, _ in ALL])
def test_each_route_that_changes_something_or_is_for_admins_has_a_rate(endpoint: str, route: Route) -> None:
    if endpoint in _PUBLIC or route.public:
        return  # these are bounded in all
    if route.method != "get" or "/ops/" in route.path:
        assert route.rate is not None, f"{route.method} {route.path}: give it rate=..., the name of one of [rates]"


def test_who_has_used_a_rate_up_waits_and_neither_other_routes_nor_others_do(make: Make) -> None:
    app = make("\n[rates]\nsearch = 2\n")
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    assert [ada.post("/v1/search", QUERY).status_code for _ in range(2)] == [200, 200]
    assert is_limited(ada.post("/v1/search", QUERY), 30)
    assert ada.get("/v1/chats").status_code == 200
    assert bob.post("/v1/search", QUERY).status_code == 200


def test_all_requests_of_a_user_are_counted_together_and_no_probe_is(make: Make) -> None:
    app = make("\n[rates]\nrequests = 3\n")
    ada = sign_in(app, "ada")
    answers = [ada.get("/v1/chats"), ada.post("/v1/search", QUERY), ada.get("/v1/me"), ada.get("/v1/jobs")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert is_limited(ada.post("/v1/chats"), 20)
    assert ada.client.get("/ready").status_code == 200


def test_a_message_over_the_rate_is_refused_before_the_database_is_asked(make: Make) -> None:
    app = make("\n[rates]\nturns = 1\n")
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    ada.send(chat, "Hello")
    used = ada.get("/v1/usage").get_json()["requests"]
    assert is_limited(ada.send(chat, "Hello"), 60)
    assert ada.get("/v1/usage").get_json()["requests"] == used


def test_a_plan_has_rates_of_its_own_and_an_unknown_plan_the_highest(make: Make) -> None:
    plans = '\n[plans.pro]\nrequests_per_minute = 10\ndaily_usd = "1"\nrates = { search = 4 }\n'
    app = make(plans + "\n[rates]\nsearch = 2\n")

    def searches(uid: str) -> int:
        user, done = sign_in(app, uid), 0
        while user.post("/v1/search", QUERY).status_code == 200:
            done += 1
        return done

    assert searches("ada") == 4
    sign_in(app, "bob").get("/v1/me")  # reads the plan
    assert searches("bob") == 2
    admin = sign_in(app, "root", role="admin")
    assert admin.put("/v1/ops/users/cleo/plan", {"plan": "pro"}).status_code == 200
    assert searches("cleo") == 4


def test_a_user_has_some_requests_answered_at_a_time_and_gets_each_place_back(make: Make) -> None:
    routes, entered, go_on = Routes("slow"), threading.Event(), threading.Event()

    @routes.get("/slow")
    def slow() -> dict[str, str]:
        entered.set()
        go_on.wait(30)
        return {}

    app = make("", routes, limits="requests_at_a_time = 1")
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    asking = threading.Thread(target=lambda: ada.get("/api/slow"))
    asking.start()
    entered.wait(30)
    try:
        assert bob.get("/v1/chats").status_code == 200
        assert is_limited(ada.get("/v1/chats"), 1)
    finally:
        go_on.set()
        asking.join()
    assert ada.get("/v1/chats").status_code == 200


@pytest.mark.parametrize(("concurrency", "most"), [(1, 8), (16, 8), (24, 12)])
def test_a_user_may_have_half_of_an_instances_requests_and_never_fewer_than_a_page_sends(
    tmp_path: Path, concurrency: int, most: int
) -> None:
    settings = Settings.load(write_app(tmp_path, SETTINGS + f"[cloud]\nconcurrency = {concurrency}\n"), {})
    limits, ada = UserLimits(settings, lambda _: None), Caller("demo", "ada", "member")
    with ExitStack() as held:
        for _ in range(most):
            held.enter_context(limits.held(ada, None))
        with pytest.raises(RateLimited), limits.held(ada, None):
            pass


def test_who_has_an_unknown_plan_is_not_limited_where_one_plan_is_not(tmp_path: Path) -> None:
    plans = '\n[plans.pro]\nrequests_per_minute = 10\ndaily_usd = "1"\nrates = { search = 0 }\n[rates]\nsearch = 1\n'
    settings = Settings.load(write_app(tmp_path, SETTINGS + plans), {})
    limits, ada = UserLimits(settings, lambda _: None), Caller("demo", "ada", "member")
    for _ in range(5):
        with limits.held(ada, "search"):
            pass
