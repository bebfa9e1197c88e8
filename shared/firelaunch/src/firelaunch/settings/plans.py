"""Define the settings of plans and of their sale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from .sections import RateName, Section, micro_dollars

__all__ = [
    "GUEST_PLAN",
    "Billing",
    "Budget",
    "Plan",
    "TopUp",
    "balance_faults",
    "budget_problems",
    "guest_problems",
    "meter_faults",
    "shared_prices",
]

StripePrice = Annotated[str, StringConstraints(pattern=r"^(price_[A-Za-z0-9_]+)?$", max_length=255)]
Dollars = Annotated[int | None, BeforeValidator(lambda value: None if value is None else micro_dollars(value))]
Feature = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]


GUEST_PLAN: Final = "guest"
"""The name of the plan of guests. What they use comes out of the guests' budget as well as the app's."""


class Plan(Section):
    """``[plans.<name>]``: what one user of that plan may use, and what it is sold as."""

    requests_per_minute: int = Field(ge=1, description="Messages in a clock minute (UTC).")
    daily_usd: Annotated[int, BeforeValidator(micro_dollars)] = Field(
        description='Dollars a day (UTC), as a string: "0.50". Kept as micro-dollars.'
    )
    cheaper_model_at_percent: int = Field(
        default=80, ge=0, le=100, description="Share of the daily budget from which the cheap model answers."
    )
    balance: bool = Field(
        default=False,
        description="The plan is paid from the user's [credit](billing.md#credit), and `daily_usd` is the most of a "
        "day. Users have it while they have credit. One plan at most.",
    )
    uploads_per_minute: int = Field(
        default=60, ge=1, description="Documents that the user may put up in a clock minute (UTC)."
    )
    rates: dict[RateName, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description="[Rates](limits.md) of this plan's users where they are not those of `[rates]`: `{ search = 60 }`.",
    )
    documents: int = Field(default=200, ge=0, description="Documents that the user may have at most.")
    groups: int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="[Groups](teams.md) that the user may own at most, and make on one day (UTC). 0 in all plans: the "
        "app has no groups.",
    )
    group_members: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Members of a group at most. It is the group's plan that counts.",
    )
    picture_pages: int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="Pages of one document that are pictures, such as scans, whose text a model reads at most; each is "
        "[paid from the user's day](documents.md#scans-and-pictures). 0: none are read.",
    )
    features: tuple[Feature, ...] = Field(
        default=(), description="Names of the app's own that the plan switches on; `turn.features` has them."
    )
    stripe_price: StripePrice = Field(
        default="", description="The Stripe price (price_...) that the plan is sold at; empty: it is not for sale."
    )
    stripe_usage_price: StripePrice = Field(
        default="",
        description="A usage-based Stripe price that subscribers pay besides `stripe_price`, or alone; it bills what "
        "`meter` counts.",
    )
    trial_days: int = Field(
        default=0,
        ge=0,
        le=730,
        description="Days that a new subscriber has for free; each user has one [trial](billing.md#trials) in the app.",
    )
    trial_without_card: bool = Field(
        default=False, description="A trial begins without a card; else the card is asked for first."
    )
    trial_end: Literal["cancel", "pause"] = Field(
        default="cancel",
        description="What becomes of a trial that ends without a card: it is over, or waits in the portal for one.",
    )
    meter: str = Field(
        default="",
        max_length=100,
        description="Event name of the [meter](billing.md#usage-based-prices) in Stripe that is told what subscribers "
        "use; empty: none is.",
    )
    meter_counts: Literal["micro_usd", "tokens", "requests"] = Field(
        default="micro_usd",
        description="What it is told of each request: what it cost in millionths of a dollar, its tokens, or 1.",
    )
    stripe_old_prices: tuple[StripePrice, ...] = Field(
        default=(), description="Stripe prices that it was sold at before; who pays one of them has the plan."
    )

    @property
    def prices(self) -> tuple[str, ...]:
        """All Stripe prices of this plan, the current one first."""
        return tuple(filter(None, (self.stripe_price, self.stripe_usage_price, *self.stripe_old_prices)))


class Budget(Section):
    """``[budget]``: what all users of the app together may cost at most."""

    daily_usd: Dollars = Field(
        default=None, description='Dollars a day (UTC) for the whole app, as a string: "20". None: no ceiling.'
    )
    monthly_usd: Dollars = Field(default=None, description="Dollars a month (UTC) for the whole app.")
    guests_daily_usd: Dollars = Field(
        default=None, description="Dollars a day (UTC) of these for all guests together; `[plans.guest]` needs it."
    )


class TopUp(Section):
    """``[billing.top_ups.<name>]``: credit that users can buy once or more often."""

    stripe_price: str = Field(
        pattern=r"^price_[A-Za-z0-9_]+$", max_length=255, description="A one-time price in Stripe (price_...)."
    )
    credit_usd: Annotated[int, BeforeValidator(micro_dollars), Field(gt=0)] = Field(
        description='Dollars of credit that it buys, as a string: "10.00".'
    )


class Billing(Section):
    """``[billing]``: how plans are sold. STRIPE_API_KEY in the environment switches it on."""

    return_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="The app's page that Stripe leads back to; the query `checkout` becomes `done` or `canceled`. "
        "The web client's is `https://YOUR-PAGE/#/plans`.",
    )
    top_ups: dict[str, TopUp] = Field(
        default={}, description="[Credit](billing.md#credit) for sale, by a name of yours; see below."
    )
    pauses_without_plan: tuple[Literal["void", "keep_as_draft", "mark_uncollectible"], ...] = Field(
        default=(),
        description="Ways of [paused collection](billing.md#what-each-state-means) in which subscribers don't have "
        "their plan. By default they keep it, as Stripe documents.",
    )


def balance_faults(plans: Mapping[str, Plan], top_ups: Mapping[str, TopUp]) -> Iterator[str]:
    """Yield a message for each fault of how credit is sold and spent."""
    names = [name for name, plan in plans.items() if plan.balance]
    if len(names) > 1:
        yield f"firelaunch.toml: plans.{names[0]} and plans.{names[1]} have `balance`: leave it to one of them."
    if top_ups and not names:
        yield "firelaunch.toml: billing.top_ups sells credit that no plan is paid from: give one `balance = true`."


def meter_faults(plans: Mapping[str, Plan]) -> Iterator[str]:
    """Yield a message for each plan whose usage would be billed by nothing."""
    for name, plan in plans.items():
        if plan.stripe_usage_price and not plan.meter:
            yield f"firelaunch.toml: plans.{name}.stripe_usage_price bills what a meter counts: name it with `meter`."


def shared_prices(plans: Mapping[str, Plan], top_ups: Mapping[str, TopUp]) -> Iterator[str]:
    """Yield a message for each Stripe price that belongs to two plans or top-ups."""
    sold = {f"plans.{name}": plan.prices for name, plan in plans.items()}
    sold |= {f"billing.top_ups.{name}": (top_up.stripe_price,) for name, top_up in top_ups.items()}
    owner: dict[str, str] = {}
    for name, prices in sold.items():
        for price in dict.fromkeys(prices):
            if owner.setdefault(price, name) != name:
                yield f"firelaunch.toml: {price} is a price of {owner[price]} and of {name}; take one out."


def budget_problems(budget: Budget, plans: Mapping[str, Plan]) -> Iterator[str]:
    """Yield a message if guests have a plan and nothing bounds what all of them together cost."""
    if GUEST_PLAN in plans and budget.guests_daily_usd is None:
        yield (
            "firelaunch.toml: budget.guests_daily_usd is missing, and there is a [plans.guest]: anybody can be a guest "
            'any number of times. Say what the guests of a day may cost together, such as guests_daily_usd = "5".'
        )


def guest_problems(plans: Mapping[str, Plan], usual: str) -> Iterator[str]:
    """Yield a message for each way in which the guests' plan is more than that.

    Args:
        usual: the plan of users who have none of their own.
    """
    if usual == GUEST_PLAN:
        yield "firelaunch.toml: app.plan is 'guest', which is the plan of users without an account; name another one."
    if GUEST_PLAN in plans and (plans[GUEST_PLAN].prices or plans[GUEST_PLAN].balance):
        yield "firelaunch.toml: plans.guest is for sale, and guests have no account to pay with: take that out."
