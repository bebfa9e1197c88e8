"""The first page of a dry run: what a deploy would make, where, how it is protected, and what it costs.

It is for people to read: topics on the left, and lines of at most 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from firelaunch.settings.app import Settings

from .declarations import NOTHING, Declarations
from .resources import DEFAULT_DATABASE, Place, Service, bucket, databases
from .spending_alert import THRESHOLDS
from .steps import Grant
from .vertex import own_index

__all__ = ["WIDTH", "LockSummary", "summary"]

WIDTH = 80
_TOPIC = 10
_MONEY = 9


@dataclass(frozen=True, slots=True)
class LockSummary:
    """The versions that are pinned.

    Args:
        prompts: those in use ("chat@1").
        released: those in ``prompts.lock``, which are not changed any more.
        packages: how many the lock of requirements pins.
        file: that lock's name.
    """

    prompts: Sequence[str]
    released: Collection[str]
    packages: int
    file: str


def summary(
    settings: Settings,
    place: Place,
    services: Iterable[Service],
    locks: LockSummary,
    costs: Sequence[tuple[str, int]],
    declared: Declarations = NOTHING,
    grants: Mapping[str, Sequence[Grant]] = MappingProxyType({}),
) -> list[str]:
    """Lay out the page, without its heading; no line is longer than :data:`WIDTH`.

    Args:
        services: all that are deployed.
        costs: each item and its micro-dollars a month.
        declared: what the app's code declares.
        grants: the roles of each account.
    """
    topics = {
        "services": [service.name + _serving(service) for service in services],
        "accounts": [f"{account}: {_roles(own)}" for account, own in grants.items()],
        "location": [_location(settings, place)],
        **{topic: sentences for topic, sentences in _own(settings, declared) if sentences},
        "web": [_site(settings.cloud.site)],
        "index": [_index(settings, place)],
        "sign-in": [_sign_in(settings)],
        "lock": list(_locks(settings, locks)),
        "backups": list(_backups(settings, place)),
        "alert": [_alert(settings)],
        "budget": list(_budget(settings)),
    }
    lines = [line for topic, sentences in topics.items() for line in _topic(topic, sentences)]
    lines += _topic("cost", ["a month without users and without free allowances (tier 1 regions)"])
    return lines + list(_topic("", list(_costs(costs)), hanging=_MONEY + 3))


def _topic(topic: str, sentences: Iterable[str], hanging: int = 2) -> Iterator[str]:
    indent = " " * _TOPIC
    for number, sentence in enumerate(sentences):
        yield from textwrap.wrap(
            sentence,
            WIDTH,
            initial_indent=topic.ljust(_TOPIC) if number == 0 else indent,
            subsequent_indent=indent + " " * hanging,
            break_on_hyphens=False,
            drop_whitespace=True,
        )


def _serving(service: Service) -> str:
    served = service.environ.get("FUNCTIONS", "")
    return f": {served.replace(',', ', ')}" if served else ""


def _roles(grants: Iterable[Grant]) -> str:
    """Return each role once, with what it is given on: by name if that is one thing, else counted by kind."""
    places: dict[str, list[str]] = {}
    for grant in grants:
        places.setdefault(grant.role.removeprefix("roles/"), []).append(grant.on)
    return "; ".join(f"{role} {_on(places[role])}" for role in places)


def _on(places: Sequence[str]) -> str:
    if "" in places:
        return "in the project"
    return f"on {places[0]}" if len(places) == 1 else f"on {len(places)} {places[0].split()[0]}s"


def _own(settings: Settings, declared: Declarations) -> Iterator[tuple[str, list[str]]]:
    """What the app's settings and its code declare of its own."""
    called = [f"{name}: {each.cron}, {each.zone}, by Cloud Scheduler" for name, each in settings.schedules.items()]
    yield "schedules", called
    ways = {"write": "Eventarc", "upload": "Cloud Storage"}
    yield "events", [f"{each.handler}: {each.pattern}, by {ways[each.source]}" for each in declared.triggers]
    yield "public", [f"{route}: needs no token" for route in declared.public_routes]
    fields = [f"{each['collectionGroup']}: {', '.join(map(_field, each['fields']))}" for each in declared.indexes]
    yield "queries", [f"an index of {each}" for each in fields]


def _field(field: Mapping[str, str]) -> str:
    return ("-" if field["order"] == "DESCENDING" else "") + field["fieldPath"]


def _location(settings: Settings, place: Place) -> str:
    model = settings.models.provider
    answers = f"Models of {model} answer at {settings.models.vertex.location}" if settings.models.vertex else ""
    models = f" {answers}." if model == "vertex" else ""
    server = urlsplit(settings.openai_server.base_url or "").hostname
    if model == "openai" and server:
        models = f" Models answer at {server}, in the place of OpenAI."
    return (
        f"{place.region}, for Cloud Run, jobs, files and Firestore. A database and a bucket stay "
        f"where they were made.{models}"
    )


def _site(site: str) -> str:
    if not site:
        return "no web client: cloud.site names no site of Firebase Hosting"
    return f"https://{site}.web.app, the web client on Firebase Hosting"


def _index(settings: Settings, place: Place) -> str:
    backend, embedding = settings.index.backend, settings.embedding
    vectors = f"{embedding.length or 'no'} dimensions, by {embedding.model or embedding.kind}"
    where = {
        "firestore": f"in Firestore's database {settings.database}",
        "vertex": f"in Vertex AI, an index of {'its own' if own_index(settings) else 'the settings'}",
        "vector_search": f"in Vector Search's collection {settings.index.collection}",
        "pgvector": "in your PostgreSQL, at the secret DATABASE_URL",
    }.get(backend, backend)
    if not embedding.length:
        return f"{backend}: documents are searched by their words {where}; there are no vectors"
    return f"{backend}: vectors {where}, {place.region}; {vectors}"


def _sign_in(settings: Settings) -> str:
    ways = [way.replace("_", " ") for way in settings.identity.sign_in]
    tenant = f", in tenant {settings.identity.tenant}" if settings.identity.tenant else ""
    return f"{', '.join(ways)}{tenant}" if ways else f"as it is set up in the console (identity.sign_in){tenant}"


def _locks(settings: Settings, locks: LockSummary) -> Iterator[str]:
    new = [name for name in locks.prompts if name not in locks.released]
    held = [name for name in locks.prompts if name in locks.released]
    if held:
        yield f"prompts.lock: {', '.join(held)}, released and not changed any more"
    if new:
        yield f"prompts.lock: {', '.join(new)}, released by the first deploy; commit the file then"
    yield f"{locks.file}: {locks.packages} packages, each pinned with its hashes"
    yield f"Firestore: {' and '.join(databases(settings))}, protected from deletion"


def _backups(settings: Settings, place: Place) -> Iterator[str]:
    cloud, database = settings.cloud, settings.database
    kept = []
    if cloud.point_in_time:
        kept.append("every minute of the last 7 days")
    if cloud.backup_days:
        kept.append(f"a backup every day, kept for {cloud.backup_days} days")
    if kept:
        shared = ", with all apps in it" if database == DEFAULT_DATABASE else ""
        yield f"database {database}{shared}: {', and '.join(kept)}"
    else:
        yield f"database {database}: none by this deploy (cloud.point_in_time, cloud.backup_days)"
    yield f"files in {bucket(settings, place)}: deleted ones for 7 days, as Cloud Storage does by itself"
    if kept:
        environment = f" --env={settings.environment.name}" if settings.environment.name else ""
        yield f"firelaunch restore {settings.app.id}{environment} prints how to bring data back"


def _alert(settings: Settings) -> str:
    amount = settings.cloud.monthly_alert
    if not amount:
        return "none by this deploy (cloud.monthly_alert)"
    parts = [f"{part:.0%}" for part in THRESHOLDS]
    return (
        f"e-mails at {', '.join(parts[:-1])} and {parts[-1]} of {amount} a month, in the currency of your billing "
        "account, for the whole project; it stops nothing"
    )


def _budget(settings: Settings) -> Iterator[str]:
    """Yield the lines on how much the users of all plans together may spend on models."""
    budget = settings.budget
    bounds = [(budget.monthly_usd, "month"), (budget.daily_usd, "day")]
    named = [f"${micro / 1_000_000:,.2f} a {period}" for micro, period in bounds if micro is not None]
    if not named:
        yield "none: the users of all plans together may spend without a bound; set budget.monthly_usd"
        return
    yield f"models cost the users of all plans together at most {' and '.join(named)}"
    if budget.monthly_usd is None:
        yield f"in a month of 31 days at most ${31 * (budget.daily_usd or 0) / 1_000_000:,.2f}"


def _costs(costs: Sequence[tuple[str, int]]) -> Iterator[str]:
    yield from (f"${micro / 1_000_000:{_MONEY}.2f}  {what}" for what, micro in costs)
    total = sum(micro for _, micro in costs)
    yield f"${total / 1_000_000:{_MONEY}.2f}  in all"
