"""Subscribe to plans, manage subscriptions, and let admins grant plans."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ..billing.base import AlreadySubscribed, BillingError, BillingOff, BillingUnavailable, NoCustomer
from ..errors import AlreadyExists, IdempotencyMismatch, InvalidId, JobsUnavailable, NotFound, TooLarge
from ..jobs.base import job_view
from ..worker.tasks.reconcile import RECONCILE, Reconcile
from .base import KEY_HEADER, Body, admins_only, caller, example, idempotency_key, services
from .jobs import JobAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


class CheckoutBody(Body):
    """What to subscribe to."""

    model_config = example({"plan": "pro"})
    plan: str = Field(min_length=1, max_length=100, description="A plan of the settings that has a `stripe_price`.")


class StripePage(BaseModel):
    """Where to send the user."""

    model_config = example({"url": "https://checkout.stripe.com/c/pay/cs_test_a1"})
    url: str = Field(description="A page of Stripe's; it leads back to `billing.return_url`.")


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
    source: str = Field(description='"granted" by an admin, by a "subscription", or the "default".')


api = Routes("billing", "billing", prefix="/v1")


@api.post(
    "/billing/checkout",
    responses={
        200: StripePage,
        **errors(TooLarge, BillingOff, AlreadySubscribed, IdempotencyMismatch, BillingError, BillingUnavailable),
    },
    operation_id="startCheckout",
    summary="Subscribe to a plan",
    openapi_extensions={"x-headers": [KEY_HEADER]},
)
def checkout(body: CheckoutBody) -> dict[str, Any]:
    """Subscribe to a plan."""
    user = caller()
    return {"url": services().checkout.checkout(user.scope, user.email, body.plan, idempotency_key())}


@api.post(
    "/billing/portal",
    responses={200: StripePage, **errors(TooLarge, BillingOff, NoCustomer, BillingError, BillingUnavailable)},
    operation_id="openBillingPortal",
    summary="Manage what is paid for",
)
def portal() -> dict[str, Any]:
    """Manage what is paid for."""
    return {"url": services().checkout.portal(caller().scope)}


@api.put(
    "/ops/users/<uid>/plan",
    responses={200: UserPlan, **errors(InvalidId, TooLarge)},
    operation_id="grantPlan",
    summary="Grant a user a plan (role admin)",
)
def grant(path: UserPath, body: PlanBody) -> dict[str, Any]:
    """Grant a user a plan (role admin)."""
    admins_only()
    entitlements = services().checkout.grant(services().store.scope.of(path.uid), body.plan)
    return {"uid": path.uid, "plan": entitlements.plan, "source": entitlements.source}


@api.post(
    "/ops/billing/reconcile",
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
