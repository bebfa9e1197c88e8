"""The costs that an app's admins see: at once, in few reads, and of no other app."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import StoreError
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, sign_in, write_app
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.worker.tasks.rollup import ROLLUP, Rollup

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
VIEWS = ("/v1/ops/sums", "/v1/ops/users", "/v1/ops/users?period=2026-03", "/v1/ops/requests?order=dearest")
MakeSite = Callable[[str], "Site"]


class Site:
    """An app whose clock is set by hand, on a store that may be shared with other apps."""

    def __init__(self, folder: Path, app_id: str, store: SQLiteStore, model: ModelServer) -> None:
        self.now = NOW
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        text = SETTINGS.replace('id = "demo"', f'id = "{app_id}"')
        self.services = build(Settings.load(write_app(folder, text), environ), lambda: self.now, store=store)
        self.app = App(app_id)
        init_app(self.app, self.services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
        self.admin = sign_in(self.app, "root", role="admin")

    def ask(self, uid: str, key: str | None = None) -> Any:
        user = sign_in(self.app, uid)
        headers = {} if key is None else {"Idempotency-Key": key}
        chat = user.new_chat() if key is None else self.chats.setdefault(uid, user.new_chat())
        return user.post(f"/v1/chats/{chat}/messages", {"text": "Hello"}, **headers)

    @property
    def chats(self) -> dict[str, str]:
        return self.__dict__.setdefault("_chats", {})

    def see(self, path: str, user: User | None = None) -> Any:
        answer = (user or self.admin).get(path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.get_json()

    def roll_up(self) -> Any:
        job = self.services.jobs.enqueue(self.services.store.scope, ROLLUP, Rollup())
        self.app.runner.run(job.id)
        done = self.services.jobs.find(job.id)
        assert done is not None
        assert done.state == "succeeded", done
        return done


@pytest.fixture
def make_site(tmp_path: Path, model: ModelServer) -> Iterator[MakeSite]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    yield lambda app_id: Site(tmp_path / app_id, app_id, store, model)
    store.close()


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site("demo")


def test_todays_figures_are_there_today(site: Site, model: ModelServer) -> None:
    model.script = [Reply(usage=(100, 20, 30))]
    site.ask("ada")
    spent = site.see("/v1/ops/requests")["items"][0]["usage"]["cost_micro_usd"]
    assert spent > 0
    today = site.see("/v1/ops/usage?days=1")["items"][0]
    named = ("users", "requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micro_usd")
    assert [today[name] for name in named] == [1, 1, 100, 20, 30, spent]
    sums = site.see("/v1/ops/sums")
    assert sums["totals"]["cost_micro_usd"] == spent
    assert sums["points"][-1]["at"] == "2026-03-01T12:00:00.000000Z"
    assert sums["points"][-1]["cost_micro_usd"] == spent
    assert [row["name"] for row in sums["by"]["model"]] == ["gpt-5.4-mini"]
    assert [user["uid"] for user in site.see("/v1/ops/users")["items"]] == ["ada"]
    assert site.see("/v1/ops/users?period=2026-03")["items"][0]["cost_micro_usd"] == spent


def test_what_was_refused_is_there_by_its_code_and_is_no_request(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    answers = [
        ada.get("/v1/chats/c0123456789abcdef"),
        ada.post("/v1/chats", {"title": 7}),
        site.app.test_client().get("/v1/chats"),
        ada.get("/v1/no-such-route"),
        ada.get("/v1/ops/sums"),
    ]
    assert [answer.status_code for answer in answers] == [404, 400, 401, 404, 403]
    site.app.end()
    sums = site.see("/v1/ops/sums")
    counted = {row["code"]: row["requests"] for row in sums["refusals"]}
    assert counted == {"not_found": 1, "invalid_request": 1, "unauthenticated": 1, "forbidden": 1}
    assert (sums["totals"]["refused"], sums["totals"]["requests"], sums["totals"]["failed"]) == (4, 0, 0)
    site.now = NOW + timedelta(days=1, hours=4)
    assert json.loads(site.roll_up().result or "")["repaired_hours"] == 0
    assert site.see("/v1/ops/sums?from=2026-03-01&step=day")["totals"]["refused"] == 4


def test_a_day_that_was_folded_has_the_figures_that_its_hours_had(site: Site, model: ModelServer) -> None:
    """Before it is folded, while a part of it is, and after; by the hour and by the day."""
    for hour in range(3):
        site.now = NOW + timedelta(hours=hour)
        model.script = [Reply(usage=(10 + hour, 0, 3))]
        site.ask("ada")
    site.now = NOW + timedelta(days=1, hours=2)
    path = "/v1/ops/sums?from=2026-03-01&to=2026-03-02&step="
    before = {step: site.see(path + step) for step in ("hour", "day")}
    assert [point["at"][11:13] for point in before["hour"]["points"] if point["calls"]] == ["12", "13", "14"]
    assert before["day"]["points"][0]["input_tokens"] == 10 + 11 + 12
    for night in (NOW + timedelta(hours=2), NOW + timedelta(hours=12, minutes=1), NOW + timedelta(days=1)):
        site.now = night
        site.roll_up()
        site.now = NOW + timedelta(days=1, hours=2)
        assert {step: site.see(path + step) for step in ("hour", "day")} == before
    month = site.see("/v1/ops/sums?from=2026-02-01&step=day")
    assert month["totals"] == before["day"]["totals"]
    usage = site.see("/v1/ops/usage?days=2")["items"][1]
    assert (usage["requests"], usage["input_tokens"], usage["users"]) == (3, 33, 1)


@pytest.mark.parametrize("hours", [1, 13])
def test_a_message_that_is_sent_again_after_a_failure_counts_as_two_requests_after_a_recount_too(
    site: Site, model: ModelServer, hours: int
) -> None:
    model.script = [Fault(400), Reply()]
    assert site.ask("ada", "key").status_code >= 400
    site.now += timedelta(hours=hours)
    assert site.ask("ada", "key").status_code == 200
    site.now = NOW + timedelta(days=1, hours=4)
    before = site.see("/v1/ops/sums?from=2026-03-01")
    assert [(row["end"].partition(":")[0], row["requests"]) for row in before["requests"]] == [
        ("error", 1),
        ("answered", 1),
    ]
    assert json.loads(site.roll_up().result or "")["repaired_hours"] == 0
    assert site.see("/v1/ops/sums?from=2026-03-01") == before


def test_an_answer_whose_sums_the_database_refuses_is_stored_and_summed_up_by_the_night(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = site.services.store._ScopedStore__store  # type: ignore[attr-defined]
    commit = inner.commit

    def refuse(writes: Any) -> Any:
        if any("/sums/" in write.path for write in writes):
            raise StoreError(reason="the document is full")
        return commit(writes)

    with monkeypatch.context() as patch:
        patch.setattr(inner, "commit", refuse)
        assert site.ask("ada").status_code == 200
    spent = site.see("/v1/ops/requests")["items"][0]["usage"]["cost_micro_usd"]
    assert spent > 0
    assert site.see("/v1/ops/sums")["totals"]["cost_micro_usd"] == 0
    assert site.see("/v1/ops/users?period=2026-03")["items"] == []
    site.now = NOW + timedelta(days=1)
    for repaired in (1, 0):
        done = json.loads(site.roll_up().result or "")
        assert (done["repaired_hours"], done["repaired_users"]) == (repaired, repaired)
        assert site.see("/v1/ops/sums?from=2026-03-01")["totals"]["cost_micro_usd"] == spent
        for period in ("2026-03-01", "2026-03"):
            assert site.see(f"/v1/ops/users?period={period}")["items"][0]["cost_micro_usd"] == spent


def test_requests_are_listed_by_what_is_asked_for(site: Site, model: ModelServer) -> None:
    model.script = [Reply(usage=(10, 0, 3)), Reply(usage=(900, 0, 90)), Fault(400)]
    for uid in ("ada", "bob", "eve"):
        site.ask(uid)
        site.now += timedelta(minutes=1)
    listed = {order: site.see(f"/v1/ops/requests?order={order}")["items"] for order in ("dearest", "failed", "latest")}
    assert [row["uid"] for row in listed["dearest"]][:2] == ["bob", "ada"]
    assert [row["uid"] for row in listed["failed"]] == ["eve"]
    assert len(listed["latest"]) == 3
    slowest = [row["total_ms"] for row in site.see("/v1/ops/requests?order=slowest")["items"]]
    assert slowest == sorted(slowest, reverse=True)
    one = listed["dearest"][0]
    assert site.see(f"/v1/ops/requests/{one['id']}") == one
    assert site.see("/v1/ops/requests?from=2026-02-20&to=2026-02-21")["items"] == []


def test_a_request_is_found_by_the_id_of_its_answer_and_by_that_of_its_log_lines(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answer = site.ask("ada")
    site.ask("bob")
    named, logged = answer.get_json()["request_id"], answer.headers["X-Request-Id"]
    assert any(named in record.getMessage() for record in caplog.records), "the log names the record"
    found = site.see(f"/v1/ops/requests/{logged}")
    assert (found["id"], found["log_id"], found["uid"]) == (named, logged, "ada")
    assert site.see(f"/v1/ops/requests/{named}") == found
    calls = site.see(f"/v1/ops/requests/{logged}/calls")["items"]
    assert [call["request"] for call in calls] == [named]
    assert site.see(f"/v1/ops/requests/{named}/calls")["items"] == calls
    for unknown in ("r0", "req_0"):
        for path in ("", "/calls", "/contents"):
            assert site.admin.get(f"/v1/ops/requests/{unknown}{path}").status_code == 404


def test_an_http_request_with_several_records_has_the_calls_of_all(site: Site) -> None:
    scope = site.services.store.scope
    for number, began in enumerate((NOW, NOW - timedelta(seconds=9))):
        named = f"r{number}"
        record = {"uid": "ada", "state": "settled", "day": "2026-03-01", "plan": "free", "log_id": "req_1"}
        call = {"uid": "ada", "request": named, "finished_at": began}
        site.services.store.commit(
            [Create(scope.request(named), {**record, "created_at": began}), Create(scope.call(f"{named}-1"), call)]
        )
    assert site.see("/v1/ops/requests/req_1")["id"] == "r1", "the first"
    calls = site.see("/v1/ops/requests/req_1/calls")["items"]
    assert [call["request"] for call in calls] == ["r1", "r0"]


def test_one_apps_admin_sees_nothing_of_another_app(make_site: MakeSite) -> None:
    one, other = make_site("demo"), make_site("other")
    one.ask("ada")
    assert one.see("/v1/ops/users")["items"]
    request = one.see("/v1/ops/requests")["items"][0]["id"]
    assert other.see("/v1/ops/sums")["totals"]["calls"] == 0
    for path in VIEWS[1:]:
        assert other.see(path)["items"] == []
    assert other.see("/v1/ops/usage?days=1")["items"][0]["cost_micro_usd"] == 0
    logged = one.see(f"/v1/ops/requests/{request}")["log_id"]
    for known in (request, logged):
        assert other.admin.get(f"/v1/ops/requests/{known}").status_code == 404
        assert other.admin.get(f"/v1/ops/requests/{known}/calls").status_code == 404
    for path in (*VIEWS, f"/v1/ops/requests/{request}"):
        stranger = User(one.app.test_client(), other.admin.token)
        assert stranger.get(path).status_code in {401, 403}
        assert sign_in(one.app, "ada").get(path).status_code == 403


@pytest.mark.parametrize(
    "query",
    ["from=2020-01-01", "from=2026-03-02", "from=2026-03-01&to=2026-02-01", "from=0001-01-01", "to=soon", "x=1"],
)
def test_a_range_that_makes_no_sense_is_refused(site: Site, query: str) -> None:
    assert site.admin.get(f"/v1/ops/sums?{query}").status_code in {400, 422}


def test_a_view_costs_at_most_200_reads_also_where_nothing_was_ever_folded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    store = site.services.store
    inner = store._ScopedStore__store  # type: ignore[attr-defined]
    real = inner.get_many
    monkeypatch.setattr(inner, "get_many", lambda paths: reads.append(len(paths)) or real(paths))
    site.now = NOW.replace(hour=23)
    sums = site.see("/v1/ops/sums?from=2025-12-01&step=day")
    assert sum(reads) <= 200
    assert len(sums["missing"]) > 30
    assert sums["missing"][-1] == "2026-02-28"
    assert Scope("demo").rollup("2026-03-01")


def test_a_range_comes_with_the_one_before_it_and_both_are_what_they_are_alone(site: Site, model: ModelServer) -> None:
    site.now = NOW - timedelta(days=1)
    site.ask("ada")
    site.now = NOW
    site.ask("ada")
    site.ask("bob")
    both = site.see("/v1/ops/sums?from=2026-03-01&before=2026-02-28")
    alone = [site.see(f"/v1/ops/sums?{query}") for query in ("from=2026-03-01", "from=2026-02-28&to=2026-03-01")]
    assert [both["totals"]["requests"], both["before"]["totals"]["requests"]] == [2, 1]
    before = both.pop("before")
    assert [both, before] == alone
    for wrong in ("2026-03-01", "2026-03-02", "2025-01-01", "soon"):
        assert site.admin.get(f"/v1/ops/sums?from=2026-03-01&before={wrong}").status_code == 400


def test_two_ranges_together_leave_reads_for_the_rest_of_a_page_or_are_not_compared(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    inner = site.services.store._ScopedStore__store  # type: ignore[attr-defined]
    real = inner.get_many
    monkeypatch.setattr(inner, "get_many", lambda paths: reads.append(len(paths)) or real(paths))
    site.now = NOW.replace(hour=23)
    by_hours = ("2026-03-01T18:00:00", "2026-03-01T12:00:00", True)
    for start, before, compared in (("2026-03-01", "2026-02-28", False), by_hours):
        reads.clear()
        sums = site.see(f"/v1/ops/sums?from={start}&before={before}")
        assert (sums["before"] is not None) is compared
        assert sum(reads) <= 170
