"""Subscribe to plans, manage subscriptions, and let admins grant plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from ..billing.balance import Balance
from ..billing.base import AlreadySubscribed, BillingError, BillingOff, BillingUnavailable, NoCustomer
from ..billing.entitlements import Entitlements, subscriptions_of, trial_of
from ..errors import (
    AlreadyExists,
    BadRequest,
    IdempotencyMismatch,
    InvalidId,
    JobsUnavailable,
    NotFound,
    PreconditionFailed,
    TooLarge,
)
from ..jobs.base import job_view
from ..paging import iso_time
from ..worker.tasks.reconcile import RECONCILE, Reconcile
from .base import KEY_HEADER, Body, Time, admins_only, caller, example, idempotency_key, services
from .jobs import JobAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


class CheckoutBody(Body):
    """The plan or top-up to pay for."""

    model_config = example({"plan": "pro"})
    plan: str | None = Field(
        default=None, min_length=1, max_length=100, description="A plan of the settings that has a `stripe_price`."
    )
    top_up: str | None = Field(
        default=None, min_length=1, max_length=100, description="One of `billing.top_ups` of the settings."
    )


class StripePage(BaseModel):
    """Where to send the user."""

    model_config = example({"url": "https://checkout.stripe.com/c/pay/cs_test_a1"})
    url: str = Field(description="A page of Stripe's; it leads back to `billing.return_url`.")


_SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_1Abc",
    "plan": "pro",
    "status": "active",
    "period_end": "2026-04-01T09:30:00.000000Z",
    "cancel_at": None,
    "cancel_at_period_end": False,
    "trial_end": None,
    "paused_reason": None,
    "collection_paused": None,
    "collection_resumes_at": None,
}


class SubscriptionView(BaseModel):
    """A subscription that has not ended, as Stripe said last."""

    model_config = example(_SUBSCRIPTION)
    id: str
    plan: str | None = Field(description="The plan that it pays for; null if the settings know none of its prices.")
    status: str = Field(description="Stripe's: active, trialing, past_due, incomplete, unpaid or paused.")
    period_end: Time | None
    cancel_at: Time | None = Field(description="When it will end, if it was canceled; null if it goes on.")
    cancel_at_period_end: bool = Field(description="Whether that is the end of the period that is paid.")
    trial_end: Time | None = Field(description="When its trial ends, or ended.")
    paused_reason: str | None = Field(description="Why its status is paused, in Stripe's word.")
    collection_paused: str | None = Field(
        description="What becomes of invoices while no payment is collected; null where Stripe collects."
    )
    collection_resumes_at: Time | None


_CREDIT = {"micro_usd": 7_500_000, "held_micro_usd": 2_100, "owed_micro_usd": 0}
_BILLING: dict[str, Any] = {
    "plan": "pro",
    "source": "subscription",
    "credit": _CREDIT,
    "trial_used": False,
    "subscriptions": [_SUBSCRIPTION],
}


class Credit(BaseModel):
    """A user's credit, in millionths of a dollar."""

    model_config = example(_CREDIT)
    micro_usd: int = Field(description="What was bought or granted and is not spent.")
    held_micro_usd: int = Field(description="What of it running requests hold.")
    owed_micro_usd: int = Field(description="What was refunded after it was spent. Later credit pays it first.")


class BillingView(BaseModel):
    """A user's plan, and their subscriptions."""

    model_config = example(_BILLING)
    plan: str
    source: str = Field(description='"granted" by an admin, by a "subscription", by "credit", or the "default".')
    credit: Credit
    trial_used: bool = Field(description="Whether the user had their trial; a checkout then begins without one.")
    subscriptions: list[SubscriptionView]


class UserPath(BaseModel):
    """The path's parameters."""

    uid: str = Field(max_length=128, description="The user's id in Firebase Auth.")


class PlanBody(Body):
    """The plan to grant."""

    model_config = example({"plan": "pro"})
    plan: str | None = Field(max_length=100, description="Its name; null takes back what was granted.")


class UserPlan(BaseModel):
    """What a user is entitled to now."""

    model_config = example({"uid": "ada", "plan": "pro", "source": "granted"})
    uid: str
    plan: str
    source: str = Field(description='"granted" by an admin, by a "subscription", by "credit", or the "default".')


class CreditBody(Body):
    """The credit to give."""

    model_config = example({"micro_usd": 5_000_000})
    micro_usd: int = Field(
        ge=-1_000_000_000_000,
        le=1_000_000_000_000,
        description="Millionths of a dollar; below zero, it is taken back.",
    )


class UserCredit(Credit):
    """The credit that a user has now."""

    model_config = example({"uid": "ada", **_CREDIT})
    uid: str


api = Routes("billing", "billing", prefix="/v1")


@api.get(
    "/billing",
    responses={200: BillingView, **errors()},
    operation_id="getBilling",
    summary="Show the caller's plan and subscriptions",
)
def billing() -> dict[str, Any]:
    """Show the caller's plan and subscriptions."""
    user, entitlements = services().store.get(caller().scope.root), services().checkout.entitlements
    has = entitlements.of(user)
    own = {} if user is None else subscriptions_of(user.data)
    return {
        "plan": has.plan,
        "source": has.source,
        "credit": _credit(Balance.of(user)),
        "trial_used": trial_of(user) is not None,
        "subscriptions": [_subscription(entitlements, key, own[key]) for key in sorted(own)],
    }


def _credit(balance: Balance) -> dict[str, Any]:
    return {
        "micro_usd": balance.micro_usd,
        "held_micro_usd": balance.held(services().clock()),
        "owed_micro_usd": balance.owed,
    }


def _subscription(entitlements: Entitlements, subscription_id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    collection = entry.get("collection") or {}
    times = {name: iso_time(entry.get(name)) for name in ("period_end", "cancel_at", "trial_end")}
    return {
        "id": subscription_id,
        "plan": next(entitlements.plans_of(entry), None),
        "status": str(entry.get("status")),
        **times,
        "cancel_at_period_end": bool(entry.get("cancel_at_period_end")),
        "paused_reason": entry.get("paused_reason"),
        "collection_paused": collection.get("behavior"),
        "collection_resumes_at": iso_time(collection.get("resumes_at")),
    }


@api.post(
    "/billing/checkout",
    rate="billing",
    responses={
        200: StripePage,
        **errors(TooLarge, BillingOff, AlreadySubscribed, IdempotencyMismatch, BillingError, BillingUnavailable),
    },
    operation_id="startCheckout",
    summary="Subscribe to a plan, or buy credit",
    description="Name either a `plan` or a `top_up`.",
    openapi_extensions={"x-headers": [KEY_HEADER]},
)
def checkout(body: CheckoutBody) -> dict[str, Any]:
    """Subscribe to a plan, or buy credit."""
    user, sale = caller(), services().checkout
    if body.plan is not None and body.top_up is None:
        return {"url": sale.subscribe(user.scope, user.email, body.plan, idempotency_key())}
    if body.top_up is not None and body.plan is None:
        return {"url": sale.top_up(user.scope, user.email, body.top_up, idempotency_key())}
    raise BadRequest("Name either a plan or a top_up.")


@api.post(
    "/billing/portal",
    rate="billing",
    responses={200: StripePage, **errors(TooLarge, BillingOff, NoCustomer, BillingError, BillingUnavailable)},
    operation_id="openBillingPortal",
    summary="Manage what is paid for",
)
def portal() -> dict[str, Any]:
    """Manage what is paid for."""
    return {"url": services().checkout.portal(caller().scope)}


@api.put(
    "/ops/users/<uid>/plan",
    rate="ops",
    responses={200: UserPlan, **errors(InvalidId, TooLarge)},
    operation_id="grantPlan",
    summary="Grant a user a plan (role admin)",
)
def grant(path: UserPath, body: PlanBody) -> dict[str, Any]:
    """Grant a user a plan (role admin)."""
    admins_only()
    entitlements = services().checkout.grant(services().store.scope.of(path.uid), body.plan, caller().uid)
    return {"uid": path.uid, "plan": entitlements.plan, "source": entitlements.source}


@api.post(
    "/ops/users/<uid>/credit",
    rate="ops",
    responses={200: UserCredit, **errors(InvalidId, TooLarge, IdempotencyMismatch, AlreadyExists, PreconditionFailed)},
    operation_id="grantCredit",
    summary="Give a user credit (role admin)",
    description="A repetition with the same `Idempotency-Key` counts once.",
    openapi_extensions={"x-headers": [KEY_HEADER]},
)
def grant_credit(path: UserPath, body: CreditBody) -> dict[str, Any]:
    """Give a user credit (role admin)."""
    admins_only()
    user = services().store.scope.of(path.uid)
    balance = services().checkout.grant_credit(user, body.micro_usd, caller().uid, idempotency_key())
    return {"uid": path.uid, **_credit(balance)}


@api.post(
    "/ops/billing/reconcile",
    rate="ops",
    responses={202: JobAnswer, **errors(TooLarge, BillingOff, AlreadyExists, NotFound, JobsUnavailable)},
    operation_id="reconcileBilling",
    summary="Compare subscriptions with Stripe's (role admin)",
    description="The job is the app's; `GET /v1/ops/jobs/{id}` has what it found.",
)
def reconcile() -> tuple[dict[str, Any], int]:
    """Compare subscriptions with Stripe's (role admin)."""
    admins_only()
    if services().checkout.payments is None:
        raise BillingOff
    return job_view(services().jobs.enqueue(services().store.scope, RECONCILE, Reconcile())), 202
