"""Define the independent sections of the settings: cloud, CORS, prices, cache, prompts, guardrails and logs."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .environments import DEFAULT_REGION
from .origins import browser_origin

__all__ = [
    "AfterTurn",
    "Alerts",
    "Cache",
    "Cloud",
    "Cors",
    "Guardrails",
    "Logs",
    "Mcp",
    "Price",
    "PromptChoice",
    "RateName",
    "Rates",
    "Section",
    "Telemetry",
    "dollars",
    "micro_dollars",
]

MICRO = 1_000_000
"""Micro-dollars in a dollar. Only the settings file has dollars; elsewhere money is an integer of micro-dollars."""


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('write an amount of dollars, for example "0.50"')
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        raise ValueError('write an amount of dollars, for example "0.50"') from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("write an amount of dollars that is not below zero")
    return amount


_HIGHEST_PRICE = 1_000_000
"""Dollars per million tokens: a thousand times the highest price of a model, and small enough for 64-bit sums."""


def _price(value: Any) -> Decimal:
    price = _decimal(value)
    if price > _HIGHEST_PRICE:
        raise ValueError(f"write dollars per million tokens, {_HIGHEST_PRICE:,} at most")
    return price


def micro_dollars(value: Any) -> int:
    """Convert an amount of dollars from the settings file to micro-dollars.

    Raises:
        ValueError: the amount is not a number, below zero, or has more than six decimals.
    """
    amount = _decimal(value) * MICRO
    if amount != amount.to_integral_value():
        raise ValueError("an amount has at most six decimals")
    return int(amount)


def dollars(micro: int) -> str:
    """Format micro-dollars as dollars, such as $0.000123 or $1.50."""
    whole, rest = divmod(micro, MICRO)
    return f"${whole}.{f'{rest:06}'.rstrip('0'):0<2}"


class Section(BaseModel):
    """The base of all sections: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cloud(Section):
    """``[cloud]``: where the app runs when it is deployed."""

    project: str = Field(default="", description="Google Cloud project id; GOOGLE_CLOUD_PROJECT overrides it.")
    region: str = Field(
        default=DEFAULT_REGION, description="Region of Cloud Run, and of Vertex AI's indexes and embeddings."
    )
    database: Literal["shared", "dedicated"] = Field(
        default="shared", description="The project's (default) Firestore database, or one named after the app."
    )
    database_id: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9-]{2,47}[a-z0-9])?$",
        description="Id of the dedicated database where it is not the app's, as after `firelaunch restore`: \"<app "
        'id>-..."; with `database = "dedicated"` alone.',
    )
    edge: Literal["public", "private"] = Field(
        default="public",
        description="Who may call: anybody, and the app checks tokens; or only those that Cloud Run's IAM lets in.",
    )
    concurrency: int = Field(
        default=80,
        ge=1,
        le=4000,
        description="Requests that one instance takes at a time, streams included; 1,000 at most on Cloud Run.",
    )
    forwarded_hops: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Entries that trusted hops add to X-Forwarded-For; a client's address is the first of them.",
    )
    min_instances: int = Field(default=0, ge=0, le=100, description="Instances kept warm; each costs while it idles.")
    max_instances: int = Field(default=10, ge=1, le=1000, description="Instances at most.")
    site: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9-]{4,28}[a-z0-9])?$",
        description="Firebase Hosting site of the web client: a deploy puts it at `https://SITE.web.app` "
        "([deploy.md](deploy.md#the-web-client)). The name is yours alone in the world. Empty: none is deployed.",
    )
    memory: str = Field(default="512Mi", pattern=r"^\d+(Mi|Gi)$", description="Memory of an instance.")
    point_in_time: bool = Field(
        default=True,
        description="Keep each version of the app's database for 7 days, so that any minute of them can be brought "
        "back. With false, a deploy leaves this as it is.",
    )
    backup_days: int = Field(
        default=7,
        ge=0,
        le=98,
        description="Days that each daily backup of the app's database is kept, at most 14 weeks. With 0, a deploy "
        "makes no schedule. A schedule that is there already stays as it is.",
    )
    monthly_alert: int = Field(
        default=50,
        ge=0,
        description="Costs of the whole project in a month, in the currency of its billing account, of which Google "
        "sends e-mails at 50, 80 and 100 %. With 0, a deploy makes no alert.",
    )

    @property
    def site_origins(self) -> tuple[str, ...]:
        """The origins of the site; none where there is no site (https://firebase.google.com/docs/hosting/multisites)."""
        return (f"https://{self.site}.web.app", f"https://{self.site}.firebaseapp.com") if self.site else ()


class Cors(Section):
    """``[cors]``: which web pages may call the API from a browser."""

    origins: tuple[Annotated[str, AfterValidator(browser_origin)], ...] = Field(
        default=(),
        description='Origins as browsers send them, such as "https://app.example.com": no path, no pattern. "*" is any '
        "page. On a laptop, localhost is always allowed.",
    )


class Mcp(Section):
    """``[mcp]``: agents, which call the app over the Model Context Protocol."""

    wait_seconds: float = Field(
        default=8,
        ge=0,
        le=600,
        description="Seconds that an answer goes on after its agent gave up waiting; if the agent asks again in that "
        "time, it gets this answer.",
    )
    authorization_server: str = Field(
        default="",
        description="OAuth authorization server where agents get their tokens, as its metadata has its `issuer`.",
    )
    resource: str = Field(
        default="",
        description="Address of `POST /mcp` as agents call it, where that is not the service's own, as on a domain of "
        "yours. Access tokens must be issued for it.",
    )
    keys_url: str = Field(
        default="",
        description="Address of the authorization server's keys (JWKS), if it issues JWT access tokens of its own and "
        "not Firebase ID tokens.",
    )
    user_claim: str = Field(
        default="sub",
        min_length=1,
        max_length=100,
        description="Claim of those tokens that has the user's Firebase uid.",
    )

    @field_validator("authorization_server", "resource", "keys_url")
    @classmethod
    def _secure(cls, value: str) -> str:
        url = urlsplit(value)
        local = url.scheme == "http" and url.hostname in {"localhost", "127.0.0.1", "::1"}
        if value and not (url.hostname and (url.scheme == "https" or local) and not (url.query or url.fragment)):
            raise ValueError("write an https:// address without a query")
        return value

    @model_validator(mode="after")
    def _keys_have_a_server(self) -> Self:
        if (self.keys_url or self.resource) and not self.authorization_server:
            raise ValueError("resource and keys_url go with authorization_server: name it, too")
        return self


class Price(Section):
    """``[prices."<model>"]``: dollars per million tokens, for a model the price table does not know or has wrong."""

    input: Annotated[Decimal, BeforeValidator(_price)] = Field(description="Dollars per million input tokens.")
    output: Annotated[Decimal, BeforeValidator(_price)] = Field(description="Dollars per million output tokens.")
    cached_input: Annotated[Decimal | None, BeforeValidator(lambda v: None if v is None else _price(v))] = Field(
        default=None, description="Dollars per million input tokens that the provider had cached; as input if left out."
    )
    cache_write: Annotated[Decimal | None, BeforeValidator(lambda v: None if v is None else _price(v))] = Field(
        default=None, description="Dollars per million input tokens that it put into its cache; as input if left out."
    )
    audio_input: Annotated[Decimal | None, BeforeValidator(lambda v: None if v is None else _price(v))] = Field(
        default=None, description="Dollars per million input tokens of recordings; as input if left out."
    )


RateName = Literal[
    "requests",
    "turns",
    "batches",
    "search",
    "extract",
    "uploads",
    "crawls",
    "files",
    "account",
    "billing",
    "groups",
    "ratings",
    "changes",
    "mcp",
    "ops",
]
"""The names of ``[rates]``. Each route of the API is counted under one of them, and under "requests"."""


class Rates(Section):
    """``[rates]``: requests of one user that one instance takes in a minute ([limits](limits.md)). 0: no limit."""

    requests: int = Field(default=3_000, ge=0, description="All requests with a token together.")
    turns: int = Field(default=600, ge=0, description="Messages, before the plan's `requests_per_minute` counts them.")
    batches: int = Field(default=60, ge=0, description="Batches.")
    search: int = Field(default=300, ge=0, description="Searches.")
    extract: int = Field(default=300, ge=0, description="Extractions.")
    uploads: int = Field(default=600, ge=0, description="Uploads, before the plan's `uploads_per_minute` counts them.")
    crawls: int = Field(default=60, ge=0, description="Crawls.")
    files: int = Field(default=1_200, ge=0, description="Files, texts and answers of batches that are read.")
    account: int = Field(default=60, ge=0, description="Exports, erasures and merges of accounts.")
    billing: int = Field(default=60, ge=0, description="Pages of Stripe: the checkout and the portal.")
    groups: int = Field(default=600, ge=0, description="Changes of groups, their members and invitations.")
    ratings: int = Field(default=600, ge=0, description="Ratings of answers.")
    changes: int = Field(default=1_800, ge=0, description="Small changes: of chats, documents, jobs and devices.")
    mcp: int = Field(default=1_200, ge=0, description="Calls of agents.")
    ops: int = Field(default=1_200, ge=0, description="Requests of admins to `/v1/ops`.")


class Cache(Section):
    """``[cache]``: answers kept in the process's memory, for questions that are exactly the same."""

    answers: bool = Field(default=False, description="Whether answers are kept; docs/caching.md says when to.")
    seconds: int = Field(default=3_600, ge=1, le=86_400, description="How long an answer is kept.")
    entries: int = Field(default=1_000, ge=1, le=1_000_000, description="Answers kept at most.")
    bytes: int = Field(default=16_777_216, ge=65_536, description="Memory for them at most.")


class PromptChoice(Section):
    """``[prompts.<name>]``: the version of a prompt that is in use; `chat = 1` under `[prompts]` is short for it."""

    version: int = Field(ge=1, description="The version that users get: 2 is the file `app/prompts/<name>@2.md`.")
    rollout: dict[int, Annotated[int, Field(ge=0, le=100)]] = Field(
        default={},
        description="Percent of the users who get another version, by version: `{ 3 = 10 }`. A user keeps theirs.",
    )

    @property
    def versions(self) -> tuple[int, ...]:
        """All versions that users may get."""
        return (self.version, *self.rollout)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"version": value}
        if not isinstance(value, dict):
            raise ValueError("write a version such as 1, or a table with version and rollout")
        return value

    @field_validator("rollout")
    @classmethod
    def _whole(cls, value: dict[int, int]) -> dict[int, int]:
        if sum(value.values()) > 100:
            raise ValueError("the percents are more than 100 in all")
        return value


class Guardrails(Section):
    """``[guardrails]``: what is looked at before a model is asked."""

    moderation: Literal["off", "openai"] = Field(
        default="off",
        description="Who is asked about each message. On a laptop without OPENAI_API_KEY nobody is.",
    )


class AfterTurn(Section):
    """``[after_turn]``: what the cheap model does once an answer was given, in jobs that no answer waits for."""

    titles: bool = Field(
        default=False,
        description="Whether a model names chats; else their first message does, as where the offline model answers.",
    )
    summaries: bool = Field(
        default=False, description="Keep a summary of what a long chat's model is not shown any more: `turn.summary`."
    )
    memory: bool = Field(default=False, description="Keep notes on each user, across chats: `turn.memory`.")


class GroupSettings(Section):
    """``[groups]``: what [groups](teams.md) of users share besides records and documents."""

    chats_paid_by: Literal["writer", "group"] | None = Field(
        default=None,
        description="Who pays for answers in [chats of groups](teams.md#chats-of-groups): the plan of the member who "
        "writes, or that of the group. None: groups have no chats.",
    )
    chats_on_erase: Literal["delete", "anonymize", "hand_over"] | None = Field(
        default=None,
        description="What becomes of the messages of an erased user in chats of groups; `chats_paid_by` needs it.",
    )


class Logs(Section):
    """``[logs]``: what the logs may hold."""

    content: bool = Field(
        default=False, description="What users write and models answer, and errors' own words; keys and tokens never."
    )


class Alerts(Section):
    """``[alerts]``: of what a deploy has Cloud Monitoring send e-mails ([telemetry](telemetry.md#alerts))."""

    email: str = Field(
        default="",
        pattern=r"^([^@\s\"]+@[^@\s\"]+)?$",
        description="Who gets the e-mails. If empty, a deploy makes no alerts.",
    )
    errors_percent: int = Field(
        default=5, ge=0, le=100, description="Share of requests that fail, over five minutes; 0 for no such alert."
    )
    first_token_ms: int = Field(
        default=10_000,
        ge=0,
        description="Milliseconds to the first token of 95 in 100 streamed answers, over five minutes; 0 for no such "
        "alert.",
    )
    dead_jobs: bool = Field(default=True, description="Whether each job that is dead is told, once an hour at most.")
    hourly_usd: Annotated[int | None, BeforeValidator(lambda v: None if v is None else micro_dollars(v))] = Field(
        default=None,
        description="Dollars that models cost in an hour for all users, as a string. None: no such alert.",
    )


class Telemetry(Section):
    """``[telemetry]``: where the deployed app sends traces and metrics. Variables named ``OTEL_...`` override it."""

    endpoint: str = Field(
        default="",
        description="Address of a receiver of OTLP over HTTP, such as `https://telemetry.googleapis.com` for Google's "
        "own. If empty, and no variable names one, nothing is sent.",
    )
    metrics: bool = Field(
        default=True, description="Whether metrics are sent there too. Langfuse and Phoenix take none."
    )
    sample: float = Field(default=1.0, ge=0, le=1, description="Share of the traces that are sent.")
    content: bool = Field(
        default=False, description="Whether traces hold what users and models write, and tools' arguments and results."
    )

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        url = urlsplit(value)
        if value and not (url.scheme in {"http", "https"} and url.hostname and not (url.query or url.fragment)):
            raise ValueError("write an address that begins with https://, without a query")
        return value
