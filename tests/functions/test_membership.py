"""The membership function as it is deployed: a real functions-framework process, and the real Firestore emulator."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from firelaunch.errors import FirelaunchError
from firelaunch.functions.wiring import build_membership
from firelaunch.store.base import DocumentStore, Set
from firelaunch.testing.accounts import AccountServer
from firelaunch.testing.emulator import Emulator, unsigned_token
from support import PYTHON, ROOT, clean_environ, served_function

Start = Callable[..., str]


@pytest.fixture
def accounts(firestore_project: str) -> Iterator[AccountServer]:
    with AccountServer(firestore_project) as server:
        yield server


@pytest.fixture
def start(
    firestore_emulator: Emulator, firestore_project: str, accounts: AccountServer, tmp_path: Path
) -> Iterator[Start]:
    """Starts the function as another instance of it, and gives its address."""
    with ExitStack() as stack:

        def one(**environ: str) -> str:
            around = {
                "GOOGLE_CLOUD_PROJECT": firestore_project,
                "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
                "FIREBASE_AUTH_EMULATOR_HOST": accounts.host,
            }
            return stack.enter_context(served_function("membership", tmp_path, **around, **environ))

        yield one


def call(url: str, method: str, path: str, token: str | None, body: Any = None, **headers: str) -> httpx.Response:
    sent = headers | ({"Authorization": f"Bearer {token}"} if token else {})
    return httpx.request(method, url + path, headers=sent, json=body, trust_env=False, timeout=60)


@pytest.fixture
def token(firestore_project: str) -> Callable[..., str]:
    return lambda uid, **claims: unsigned_token(firestore_project, {"sub": uid, **claims})


ANONYMOUS = {"firebase": {"sign_in_provider": "anonymous", "identities": {}}}


def test_a_removed_member_comes_back_only_once_an_admin_readmits_them(
    start: Start, accounts: AccountServer, emulator_store: DocumentStore, token: Callable[..., str]
) -> None:
    url = start()
    emulator_store.commit([Set("apps/demo", {"name": "Demo", "join": "open"})])
    accounts.add("root", claims={"apps": {"demo": "admin"}})
    accounts.add("bob")
    root, bob = token("root"), token("bob")
    assert call(url, "POST", "/apps/demo/join", bob).status_code == 200
    assert call(url, "DELETE", "/apps/demo/members/bob", root).status_code == 200
    refused = call(url, "POST", "/apps/demo/join", bob)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "removed")
    assert call(url, "DELETE", "/apps/demo/removals/bob", bob).status_code == 403
    lifted = call(url, "DELETE", "/apps/demo/removals/bob", root)
    assert (lifted.status_code, lifted.json()) == (200, {"app": "demo", "uid": "bob", "removed": False})
    assert call(url, "POST", "/apps/demo/join", bob).json() == {"app": "demo", "role": "member"}


def test_an_anonymous_account_joins_nothing_until_it_is_linked(
    start: Start, accounts: AccountServer, emulator_store: DocumentStore, token: Callable[..., str]
) -> None:
    url = start()
    emulator_store.commit([Set("apps/demo", {"name": "Demo", "join": "open"})])
    accounts.add("ada")
    accounts.add("root", claims={"apps": {"demo": "admin"}})
    code = call(url, "POST", "/apps/demo/invites", token("root")).json()["invite"]
    anonymous = token("ada", **ANONYMOUS)
    for body in (None, {"invite": code}):
        refused = call(url, "POST", "/apps/demo/join", anonymous, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "anonymous_account")
    as_root = call(url, "PUT", "/apps/demo/members/ada", token("root", **ANONYMOUS), {"role": "admin"})
    assert (as_root.status_code, accounts.claims("ada")) == (403, {})
    # What joined before anonymous accounts were refused can still leave.
    assert call(url, "POST", "/apps/demo/leave", anonymous).status_code == 200
    linked = token("ada", firebase={"sign_in_provider": "password", "identities": {"email": ["ada@example.com"]}})
    assert call(url, "POST", "/apps/demo/join", linked).json() == {"app": "demo", "role": "member"}


def test_the_whole_life_of_a_membership_over_http(
    start: Start, accounts: AccountServer, emulator_store: DocumentStore, token: Callable[..., str]
) -> None:
    url = start()
    emulator_store.commit([Set("apps/demo", {"name": "Demo", "join": "invite"})])
    accounts.add("root", claims={"apps": {"demo": "admin"}})
    accounts.add("ada", email="ada@example.com")
    root, ada = token("root"), token("ada")

    refused = call(url, "POST", "/apps/demo/join", ada)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    invited = call(url, "POST", "/apps/demo/invites", root, {"role": "editor", "hours": 1})
    assert invited.status_code == 201, invited.text
    joined = call(url, "POST", "/apps/demo/join", ada, {"invite": invited.json()["invite"]})
    assert (joined.status_code, joined.json()) == (200, {"app": "demo", "role": "editor"})
    assert accounts.claims("ada") == {"apps": {"demo": "editor"}}
    changed = call(url, "PUT", "/apps/demo/members/ada", root, {"role": "admin"})
    assert (changed.status_code, accounts.claims("ada")) == (200, {"apps": {"demo": "admin"}})
    member = emulator_store.get("apps/demo/members/ada")
    assert member is not None
    assert member.data["role"] == "admin"
    assert call(url, "DELETE", "/apps/demo/members/root", ada).status_code == 200
    left = call(url, "POST", "/apps/demo/leave", ada)
    assert (left.status_code, left.json()) == (200, {"app": "demo", "role": None})
    assert (accounts.claims("ada"), accounts.claims("root")) == ({}, {})
    assert emulator_store.get("apps/demo/members/ada") is None


def test_what_is_not_asked_for_properly_is_refused_in_the_form_of_all_errors(
    start: Start, accounts: AccountServer, emulator_store: DocumentStore, token: Callable[..., str]
) -> None:
    url = start()
    emulator_store.commit([Set("apps/demo", {"name": "Demo", "join": "open"})])
    accounts.add("ada")
    ada = token("ada")
    foreign = unsigned_token("another-project", {"sub": "ada"})
    expired = token("ada", exp=int(time.time()) - 100)
    attempts = [
        (401, "unauthenticated", ("POST", "/apps/demo/join", None)),
        (401, "unauthenticated", ("POST", "/apps/demo/join", foreign)),
        (401, "unauthenticated", ("POST", "/apps/demo/join", expired)),
        (401, "unauthenticated", ("POST", "/apps/demo/join", token("a/b"))),
        (401, "unauthenticated", ("POST", "/apps/demo/join", token("ada", iat=None))),
        (401, "unauthenticated", ("POST", "/apps/demo/join", token("ada", firebase={"tenant": {"a": 1}}))),
        (401, "unauthenticated", ("GET", "/", None)),
        (403, "forbidden", ("POST", "/apps/demo/join", token("ada", firebase={"tenant": "acme-x1"}))),
        (404, "not_found", ("POST", "/apps/other/join", ada)),
        (404, "not_found", ("POST", "/apps/other/join/", ada)),
        (403, "invite_invalid", ("POST", "/apps/demo/join/", ada, {"invite": "x"})),
        (404, "not_found", ("GET", "/", ada)),
        (405, "method_not_allowed", ("GET", "/apps/demo/join", ada)),
        (400, "invalid_id", ("POST", "/apps/DEMO/join", ada)),
        (400, "invalid_request", ("POST", "/apps/demo/join", ada, {"uid": "root"})),
        (400, "invalid_request", ("POST", "/apps/demo/join", ada, {"role": "admin"})),
        (400, "invalid_request", ("POST", "/apps/demo/join", ada, ["admin"])),
        (400, "invalid_request", ("POST", "/apps/demo/invites", ada, {"uses": 0})),
        (403, "invite_invalid", ("POST", "/apps/demo/join", ada, {"invite": "x"})),
        (413, "too_large", ("POST", "/apps/demo/join", ada, {"invite": "x" * 5000})),
        (400, "invalid_request", ("PUT", "/apps/demo/members/ada", ada, {})),
        (403, "forbidden", ("PUT", "/apps/demo/members/ada", ada, {"role": "admin"})),
    ]
    for status, code, asked in attempts:
        answer = call(url, *asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), asked
        assert answer.json()["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert accounts.claims("ada") == {}


def test_two_instances_that_are_asked_at_once_lose_no_app(
    start: Start, accounts: AccountServer, emulator_store: DocumentStore, token: Callable[..., str]
) -> None:
    apps = [f"app-{number}" for number in range(6)]
    emulator_store.commit([Set(f"apps/{app}", {"name": app, "join": "open"}) for app in apps])
    accounts.add("ada")
    accounts.slow = 0.02
    with ThreadPoolExecutor(6) as pool:
        urls = list(pool.map(lambda _: start(), range(2)))
        answers = list(pool.map(lambda n: call(urls[n % 2], "POST", f"/apps/{apps[n]}/join", token("ada")), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert accounts.claims("ada") == {"apps": dict.fromkeys(apps, "member")}


def test_an_app_with_a_database_of_its_own_is_decided_by_that_database(
    start: Start,
    accounts: AccountServer,
    emulator_store: DocumentStore,
    firestore_emulator: Emulator,
    firestore_project: str,
    token: Callable[..., str],
) -> None:
    """A service that can write the shared database cannot open the door of an app that is not in it. The app's own may
    be one that a restore made."""
    url = start(DEDICATED_APPS="walled=walled-20261128-2215, other")
    emulator_store.commit([Set("apps/walled", {"name": "forged", "join": "open"})])
    own = firestore_emulator.store(firestore_project, "walled-20261128-2215")
    own.commit([Set("apps/walled", {"name": "Walled", "join": "invite"})])
    accounts.add("ada")
    assert call(url, "POST", "/apps/walled/join", token("ada")).status_code == 403
    own.commit([Set("apps/walled", {"name": "Walled", "join": "open"})])
    assert call(url, "POST", "/apps/walled/join", token("ada")).status_code == 200
    assert own.get("apps/walled/members/ada") is not None
    assert emulator_store.get("apps/walled/members/ada") is None
    own.close()


def test_a_browser_may_call_it_from_any_page_and_is_told_so_without_a_token(start: Start) -> None:
    answer = httpx.options(
        start() + "/apps/demo/join",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
        trust_env=False,
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "GOOGLE_CLOUD_PROJECT is not set"),
        ({"GOOGLE_CLOUD_PROJECT": "p", "DEDICATED_APPS": "Not An Id"}, "An app id is"),
        ({"GOOGLE_CLOUD_PROJECT": "p", "DEDICATED_APPS": "walled=(default)"}, "An app id is"),
        ({"GOOGLE_CLOUD_PROJECT": "p", "K_SERVICE": "door", "FIREBASE_AUTH_EMULATOR_HOST": "x:1"}, "on Cloud Run"),
        ({"GOOGLE_CLOUD_PROJECT": "p", "K_SERVICE": "door", "FIRESTORE_EMULATOR_HOST": "x:1"}, "on Cloud Run"),
    ],
)
def test_it_does_not_start_where_it_would_be_open_or_blind(environ: dict[str, str], said: str) -> None:
    with pytest.raises(FirelaunchError) as refused:
        build_membership(clean_environ(**environ))
    assert said in str(refused.value)


def test_what_does_not_start_ends_its_process_with_the_reason() -> None:
    command = [PYTHON, "-c", "import main; main.door()"]
    done = subprocess.run(command, cwd=ROOT / "functions", env=clean_environ(), capture_output=True, text=True)
    assert done.returncode != 0
    assert "GOOGLE_CLOUD_PROJECT is not set" in done.stderr
