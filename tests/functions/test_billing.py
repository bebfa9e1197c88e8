"""Stripe's webhook and the reconciliation as deployed: real functions-framework processes, the real emulator."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from firelaunch.billing.reconcile import Reconciliation
from firelaunch.errors import FirelaunchError
from firelaunch.functions.stripe_webhook import reconciliation_app
from firelaunch.functions.wiring import build_reconciliation, build_webhook
from firelaunch.jobs.oidc import ServiceAccountTokens
from firelaunch.store.base import DocumentStore
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.stripe import StripeServer
from shop import Shop
from support import PYTHON, ROOT, clean_environ, served_function

Start = Callable[..., str]


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def shop(stripe: StripeServer, emulator_store: DocumentStore) -> Shop:
    return Shop(stripe, emulator_store)


@pytest.fixture
def environ(firestore_emulator: Emulator, firestore_project: str, stripe: StripeServer) -> dict[str, str]:
    return {
        "GOOGLE_CLOUD_PROJECT": firestore_project,
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "BILLING_APPS": "demo, other",
        "STRIPE_API_KEY": stripe.key,
        "STRIPE_WEBHOOK_SECRET": stripe.secret,
        "STRIPE_API_BASE": stripe.url,
    }


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda name, **more: stack.enter_context(served_function(name, tmp_path, **environ | more))


def post(url: str, body: bytes, signature: str | None, path: str = "/") -> httpx.Response:
    headers = {"Content-Type": "application/json; charset=utf-8"} | (
        {} if signature is None else {"Stripe-Signature": signature}
    )
    return httpx.post(url + path, content=body, headers=headers, trust_env=False, timeout=60)


def test_stripes_events_reach_the_users_document_once_whatever_instance_takes_them(start: Start, shop: Shop) -> None:
    urls = [start("stripe_webhook"), start("stripe_webhook")]
    shop.subscribe()
    created = shop.stripe.webhook(shop.stripe.account.events[-1])
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: post(urls[n % 2], *created), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    outcomes = sorted(answer.json()["outcome"] for answer in answers)
    assert outcomes == ["applied", *["duplicate"] * 5]
    assert shop.plan() == "pro"


def test_where_the_account_is_shared_another_apps_event_is_let_go_and_nothing_of_it_is_kept(
    start: Start, shop: Shop
) -> None:
    """Stripe turns an address off that goes on refusing; a forged signature is refused all the same."""
    url, stripe = start("stripe_webhook", BILLING_SHARED="1"), shop.stripe
    shop.subscribe(app="elsewhere")
    body, signature = stripe.webhook(stripe.account.events[-1])
    answer = post(url, body, signature)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "foreign")
    assert post(url, body, None).status_code == 400
    shop.subscribe()
    assert post(url, *stripe.webhook(stripe.account.events[-1])).json()["outcome"] == "applied"
    assert shop.plan() == "pro"


def test_what_is_forged_old_foreign_or_malformed_is_refused_and_what_is_unknown_is_acknowledged(
    start: Start, shop: Shop, tmp_path: Path
) -> None:
    url, stripe = start("stripe_webhook"), shop.stripe
    shop.subscribe()
    event = stripe.account.events[-1]
    body, signature = stripe.webhook(event)
    shop.subscribe(app="elsewhere")
    foreign = stripe.account.events[-1]
    attempts = [
        (400, (body, None)),
        (400, (body, signature[:-4] + "0000")),
        (400, stripe.webhook(event, secret="whsec_guessed")),
        (400, stripe.webhook(event, at=time.time() - 3600)),
        (400, stripe.webhook(b"{")),
        (400, stripe.webhook(b"[1]")),
        (400, stripe.webhook({**event, "id": "../x"})),
        (403, stripe.webhook(foreign)),
        (413, stripe.webhook(b" " * (1024 * 1024 + 1))),
        (404, (*stripe.webhook(event), "/elsewhere")),
    ]
    for status, asked in attempts:
        answer = post(url, *asked)
        assert answer.status_code == status, (asked, answer.text)
        assert answer.json()["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert httpx.get(url, trust_env=False).status_code == 405
    assert (shop.plan(), shop.receipt(event)) == ("free", None)
    for number in (1, 2):
        kept = post(url, *stripe.webhook({**stripe.account.events[0], "type": "invented.by.stripe"}))
        assert (kept.status_code, kept.json()["outcome"]) == (200, ["skipped", "duplicate"][number - 1])
    log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert "of another app" in log
    assert not [secret for secret in (stripe.key, stripe.secret) if secret in log]


def test_while_stripe_is_down_events_are_to_be_sent_again(start: Start, shop: Shop) -> None:
    url = start("stripe_webhook")
    shop.subscribe()
    event = shop.stripe.account.events[-1]
    shop.stripe.fail = [500] * 3
    refused = post(url, *shop.stripe.webhook(event))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "billing_unavailable")
    assert post(url, *shop.stripe.webhook(event)).json()["outcome"] == "applied"
    assert shop.plan() == "pro"


def test_the_reconciliation_mends_and_reports(start: Start, shop: Shop) -> None:
    url = start("reconcile_billing")
    shop.subscribe("ada")
    shop.subscribe("ada", app="other", price="price_team")
    report = httpx.post(url, trust_env=False, timeout=60).json()
    assert {key: value for key, value in report.items() if key != "shown"} == {
        "subscriptions": 2,
        "foreign": 0,
        "subscribers": 2,
        "differences": 2,
        "mended": 2,
        "failed": 0,
        "payment_events": 0,
        "payments_mended": 0,
    }
    assert {(shown["app_id"], shown["ours"], shown["stripes"]) for shown in report["shown"]} == {
        ("demo", None, "active"),
        ("other", None, "active"),
    }
    assert (shop.plan("ada"), shop.plan("ada", "other")) == ("pro", "team")
    assert httpx.post(url, trust_env=False, timeout=60).json()["differences"] == 0


def test_an_app_with_a_database_of_its_own_has_its_events_there(
    start: Start, shop: Shop, firestore_emulator: Emulator, firestore_project: str
) -> None:
    url = start("stripe_webhook", DEDICATED_APPS="other")
    shop.subscribe(app="other")
    assert post(url, *shop.stripe.webhook(shop.stripe.account.events[-1])).json()["outcome"] == "applied"
    own = firestore_emulator.store(firestore_project, "other")
    assert own.get("apps/other/users/ada") is not None
    assert shop.store.get("apps/other/users/ada") is None
    own.close()


def test_where_an_invoker_is_named_nobody_else_reconciles(start: Start, shop: Shop) -> None:
    url = start("reconcile_billing", INVOKER="scheduler@p.iam.gserviceaccount.com", INVOKER_AUDIENCE="https://here")
    for headers in ({}, {"Authorization": "Basic eDp5"}):
        answer = httpx.post(url, headers=headers, trust_env=False, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert shop.stripe.requests == []


def test_the_invoker_is_who_googles_token_says(shop: Shop) -> None:
    email, audience, now = "scheduler@p.iam.gserviceaccount.com", "https://reconcile.example.com", int(time.time())
    claims = {"iss": "https://accounts.google.com", "aud": audience, "sub": "1", "iat": now, "exp": now + 3600}
    with CertificateServer() as google:
        invoker = ServiceAccountTokens(audience, email, google.url)
        client = reconciliation_app(Reconciliation(shop.payments, shop.ledgers), invoker).test_client()

        def status(**more: Any) -> int:
            token = google.sign({**claims, "email": email, "email_verified": True, **more})
            return client.post("/", headers={"Authorization": f"Bearer {token}"}).status_code

        assert status() == 200
        for other in ({"email": "eve@p.iam.gserviceaccount.com"}, {"email_verified": False}, {"aud": "https://else"}):
            assert status(**other) == 401


GOOD = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "BILLING_APPS": "demo",
    "STRIPE_API_KEY": "sk_test_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_1",
    "INVOKER": "a@b",
    "INVOKER_AUDIENCE": "https://here",
}


@pytest.mark.parametrize(
    ("app", "without", "more", "said"),
    [
        ("webhook", "GOOGLE_CLOUD_PROJECT", {}, "GOOGLE_CLOUD_PROJECT is not set"),
        ("webhook", "BILLING_APPS", {}, "BILLING_APPS is not set"),
        ("webhook", "", {"BILLING_APPS": " , "}, "BILLING_APPS is not set"),
        ("webhook", "", {"BILLING_APPS": "Not An Id"}, "An app id is"),
        ("webhook", "STRIPE_API_KEY", {}, "STRIPE_API_KEY is not set"),
        ("webhook", "STRIPE_WEBHOOK_SECRET", {}, "STRIPE_WEBHOOK_SECRET is not set"),
        ("webhook", "", {"K_SERVICE": "w", "STRIPE_API_BASE": "http://x"}, "STRIPE_API_BASE is set on Cloud Run"),
        ("reconciliation", "INVOKER", {"K_SERVICE": "r"}, "INVOKER is not set"),
        ("reconciliation", "INVOKER_AUDIENCE", {}, "INVOKER_AUDIENCE is not set"),
    ],
)
def test_it_does_not_start_where_it_would_be_open_or_blind(
    app: str, without: str, more: dict[str, str], said: str
) -> None:
    environ = {key: value for key, value in (GOOD | more).items() if key != without}
    build = {"webhook": build_webhook, "reconciliation": build_reconciliation}[app]
    with pytest.raises(FirelaunchError) as refused:
        build(clean_environ(**environ))
    assert said in str(refused.value)


@pytest.mark.parametrize("app", ["webhook", "reconciliation"])
def test_what_does_not_start_ends_its_process_with_the_reason(app: str) -> None:
    command = [PYTHON, "-c", f"import main; main.{app}()"]
    done = subprocess.run(command, cwd=ROOT / "functions", env=clean_environ(), capture_output=True, text=True)
    assert done.returncode != 0
    assert "GOOGLE_CLOUD_PROJECT is not set" in done.stderr


def test_nothing_of_stripes_package_is_imported_before_it_is_needed() -> None:
    code = "import main, sys; main.webhook(); main.reconciliation(); print(json.dumps([m for m in sys.modules]))"
    environ = clean_environ(**{key: value for key, value in GOOD.items() if not key.startswith("INVOKER")})
    done = subprocess.run(
        [PYTHON, "-c", f"import json; {code}"], cwd=ROOT / "functions", env=environ, capture_output=True, text=True
    )
    modules: list[Any] = json.loads(done.stdout)
    assert "firelaunch.billing.stripe" in modules
    assert "stripe" not in modules
