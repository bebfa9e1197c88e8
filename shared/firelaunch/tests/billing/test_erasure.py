"""Erasing a user ends what they pay for in Stripe: the real stripe package, against the server that plays its part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.billing.base import BillingError
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore, Set
from firelaunch.testing.stripe import StripeServer
from firelaunch.worker.tasks.erase import ErasureReport, erasure_of
from shop import Shop

ADA = Scope("demo", "uid-of-ada")
SOLD = (
    JOB_SETTINGS
    + '\n[plans.pro]\nrequests_per_minute = 9\ndaily_usd = "5"\nstripe_price = "price_pro"\n'
    + '\n[billing]\nreturn_url = "https://app.example.com/plans"\n'
)


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path, stripe: StripeServer) -> Iterator[Site]:
    store: DocumentStore | None = None
    if request.param == "firestore":
        store = request.getfixturevalue("emulator_store")
    given = {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url}
    with embedded_site(tmp_path, store, settings=SOLD, started=False, **given) as made:
        yield made


@pytest.fixture
def shop(stripe: StripeServer, site: Site) -> Shop:
    return Shop(stripe, site.services.store, ("demo",))


def buy(site: Site, shop: Shop, user: Scope, count: int = 1) -> list[str]:
    """A user who began at a checkout, and what they pay for since."""
    page = site.services.checkout.subscribe(user, None, "pro", None)
    session = shop.stripe.account.sessions[page.rpartition("/")[2]]
    account = shop.stripe.account
    made = [account.pay(session["id"])["id"]]
    made += [account.subscribe(session["customer"], session["metadata"], "price_pro")["id"] for _ in range(count - 1)]
    shop.send_all()
    return made


def states(shop: Shop, names: list[str]) -> set[str]:
    return {shop.stripe.account.subscriptions[name]["status"] for name in names}


def erase(site: Site, user: Scope = ADA) -> ErasureReport:
    return erasure_of(site.services).run(user.uid or "")


def of_ada(site: Site) -> list[str]:
    store = site.services.store
    return [path for path in store.tree("apps/demo") if "uid-of-ada" in path or "uid-of-ada" in repr(store.get(path))]


def test_what_the_user_pays_for_in_this_app_is_canceled_and_nothing_of_others(site: Site, shop: Shop) -> None:
    own, bobs = buy(site, shop, ADA, 2), buy(site, shop, Scope("demo", "bob"))
    elsewhere = shop.subscribe(ADA.uid or "", "other")
    before = site.services.store.get("apps/demo/users/bob")
    assert erase(site).found["subscriptions"] == 2
    assert states(shop, own) == {"canceled"}
    assert states(shop, [*bobs, elsewhere]) == {"active"}
    assert site.services.store.get("apps/demo/users/bob") == before


def test_what_stripe_tells_afterwards_brings_nothing_of_the_user_back(site: Site, shop: Shop) -> None:
    (own,) = buy(site, shop, ADA)
    told = len(shop.stripe.account.events)
    erase(site)
    after = shop.stripe.account.events[told:]
    assert {event["type"] for event in after} == {"customer.subscription.updated", "customer.subscription.deleted"}
    assert [shop.send(event) for event in after] == ["skipped"] * len(after)
    assert of_ada(site) == []
    assert "uid" not in shop.stripe.account.subscriptions[own]["metadata"]


def test_a_dry_run_counts_them_and_changes_nothing(site: Site, shop: Shop) -> None:
    own = buy(site, shop, ADA)
    asked = len(shop.stripe.requests)
    assert erasure_of(site.services).report(ADA.uid or "").found["subscriptions"] == 1
    assert {method for method, _, _ in shop.stripe.requests[asked:]} == {"GET"}
    assert states(shop, own) == {"active"}
    assert site.services.store.get(ADA.root) is not None


@pytest.mark.parametrize("answered", range(4))
def test_an_erasure_that_stripe_breaks_off_is_done_by_the_next(site: Site, shop: Shop, answered: int) -> None:
    """Whatever was answered until then: the counting, the listing, the change, the canceling."""
    own = buy(site, shop, ADA)
    real = shop.stripe.answer
    left = [answered]

    def breaks(*given: Any) -> Any:
        if left[0] == 0:
            return 400, {"error": {"type": "invalid_request_error", "message": "scripted"}}, {}
        left[0] -= 1
        return real(*given)

    shop.stripe.answer = breaks  # type: ignore[method-assign]
    with pytest.raises(BillingError):
        erase(site)
    assert site.services.store.get(ADA.root) is not None, "it names the customer"
    shop.stripe.answer = real  # type: ignore[method-assign]
    assert erase(site).found["subscriptions"] == 1
    assert states(shop, own) == {"canceled"}
    assert erase(site).found == {}, "and a third has nothing to do"


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_what_ended_or_is_gone_in_stripe_is_no_obstacle(site: Site, shop: Shop) -> None:
    own = buy(site, shop, ADA)
    shop.stripe.account.delete_customer(shop.stripe.account.subscriptions[own[0]]["customer"])
    assert "subscriptions" not in erase(site).found
    assert site.services.store.get(ADA.root) is None
    site.services.store.commit([Set(ADA.root, {"billing": {"customer": "cus_never", "subscriptions": {"sub_no": {}}}})])
    assert erase(site).customer == "cus_never"
    assert site.services.store.get(ADA.root) is None


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_subscription_of_an_earlier_customer_of_the_same_user_is_canceled_too(site: Site, shop: Shop) -> None:
    own = [*buy(site, shop, ADA), shop.subscribe(ADA.uid or "")]
    shop.send_all()
    assert erase(site).found["subscriptions"] == 2
    assert states(shop, own) == {"canceled"}


def test_where_billing_is_off_the_report_names_the_customer(tmp_path: Path, stripe: StripeServer) -> None:
    with embedded_site(tmp_path, settings=SOLD, started=False) as site:
        site.services.store.commit([Set(ADA.root, {"billing": {"customer": "cus_ada"}})])
        report = erase(site)
    assert (report.customer, report.found) == ("cus_ada", {"users": 1})
    assert stripe.requests == []
