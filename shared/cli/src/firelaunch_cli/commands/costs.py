"""Implement ``firelaunch costs``: what one app or all apps cost, by time, model, prompt, feature, user or app."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from firelaunch.errors import FirelaunchError, SettingsError
from firelaunch.metering.sum_reports import SumReader, SumReport, dearest_users
from firelaunch.scope import APP_ID, Scope
from firelaunch.services.build import build_store
from firelaunch.settings.app import MODEL_KEYS, Settings
from firelaunch.settings.sections import dollars
from firelaunch.store.base import TreeStore

from .apps import app_argument, app_folder, app_folders, env_option, load_settings, repo_root, where
from .bars import draw

__all__ = ["command"]

_PARTS = {"model": "model", "prompt": "prompt", "feature": "purpose"}
_FIGURES = ("cost_micro_usd", "calls", "input_tokens", "output_tokens")
_MOST_READS = 1_000_000
_MOST_USERS = 100
_FULL_DAYS = 7
_PERIOD = re.compile(r"\d{4}-\d{2}(-\d{2})?")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Books:
    """The sums of one app in one database."""

    app: Scope
    store: TreeStore
    now: datetime

    def report(self, start: datetime, end: datetime, step: Any = "day") -> SumReport:
        """Return the sums from ``start`` to ``end``."""
        return SumReader(self.store, self.app, self.now, _MOST_READS).report(start, end, step)


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month (UTC), as ``yyyy-mm-dd`` or ``yyyy-mm``."""

    name: str

    @property
    def is_day(self) -> bool:
        """Return whether the period is a day."""
        return len(self.name) > len("yyyy-mm")

    @property
    def start(self) -> datetime:
        """When it begins."""
        return datetime.strptime(self.name, "%Y-%m-%d" if self.is_day else "%Y-%m").replace(tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """When the next one begins."""
        if self.is_day:
            return self.start + timedelta(days=1)
        return (self.start + timedelta(days=31)).replace(day=1)


def _period(_context: click.Context, _option: click.Parameter, value: str | None) -> Period | None:
    if value is None:
        return None
    try:
        if not _PERIOD.fullmatch(value):
            raise ValueError
        period = Period(value)
        return period if period.start else None
    except ValueError:
        raise click.BadParameter("write a day as 2026-03-01, and a month as 2026-03") from None


@click.command("costs")
@app_argument
@click.option("--by", type=click.Choice([*_PARTS, "user", "app"]), help="Whose costs; by time if left out.")
@click.option("--in", "period", metavar="PERIOD", callback=_period, help="A day or a month (UTC); else this month.")
@click.option("--months", type=click.IntRange(1, 24), help="A line for each of so many months.")
@click.option("--all-apps", is_flag=True, help="All apps of the repo, and of the databases that they are in.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@env_option
def command(app: str, by: str | None, period: Period | None, months: int | None, all_apps: bool, as_json: bool) -> None:
    """Print what APP costs: each day of this month, and a forecast for all of it.

    The app's settings and the environment choose the database, as for other commands: with FIRELAUNCH_MODE=cloud it is
    Firestore, read with your own credentials. Days and months are in UTC.
    """
    if months and (by or period):
        raise click.UsageError("--months has no --by and no --in.")
    now = datetime.now(UTC)
    chosen = period or Period(f"{now:%Y-%m}")
    folders = app_folders(repo_root() / "apps") if all_apps or by == "app" else [app_folder(app)]
    try:
        with _opened(folders, now, every=all_apps or by == "app") as books:
            rows = _by_month(books, months, now) if months else _rows(books, by, chosen)
            forecast = None if by or months or period else _forecast(books, now)
            of_models = [] if months else _rows(books, "model", chosen)
    except SettingsError:
        raise
    except FirelaunchError as error:
        raise click.ClickException(f"{error.message} {error.reason or ''}".strip()) from None
    total = sum(row["cost_micro_usd"] for row in rows)
    if as_json:
        apps = sorted(each.app.app_id for each in books)
        expected = None if forecast is None else forecast.micro_usd
        found = {"apps": apps, "rows": rows, "cost_micro_usd": total, "forecast_micro_usd": expected}
        click.echo(json.dumps(found, indent=2))
        return
    asked = [row for row in rows if row["calls"] or row["cost_micro_usd"]]
    draw([(row["name"], row["cost_micro_usd"], dollars(row["cost_micro_usd"])) for row in asked])
    if {(row["name"], row["cost_micro_usd"]) for row in of_models} == {("offline", 0)}:
        click.echo("Answers of the offline model cost nothing.")
    click.echo(f"{_named(books)}, {f'{months} months' if months else chosen.name}: {dollars(total)}")
    if forecast is not None:
        click.echo(forecast.sentence(chosen.name))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a month will cost.

    Args:
        micro_usd: the month's costs.
        days: how many full days each day that is left is taken to cost the mean of; 0 if it is what today cost so far.
    """

    micro_usd: int
    days: int

    def sentence(self, month: str) -> str:
        """Return the forecast and what it assumes, for people."""
        if not self.micro_usd:
            return "There is no forecast yet: nothing was spent."
        each = "as much as today so far"
        if self.days:
            each = (
                "as much as the last full day" if self.days == 1 else f"the average of the last {self.days} full days"
            )
        return f"Forecast for {month}: {dollars(self.micro_usd)}, if each day that is left costs {each}."


@contextmanager
def _opened(folders: Sequence[Path], now: datetime, *, every: bool) -> Iterator[list[Books]]:
    """Open the databases of these apps: for the apps alone, or for all that are in the databases."""
    stores: dict[str, TreeStore] = {}
    books: dict[tuple[str, str], Books] = {}
    try:
        for folder in folders:
            settings = load_settings(str(folder), unused={*MODEL_KEYS})
            if not _is_there(settings):
                continue
            place = where(settings)
            store = stores.get(place) or stores.setdefault(place, build_store(settings))
            names = [name for name in store.ids("apps") if APP_ID.fullmatch(name)] if every else []
            for name in {*names, settings.app.id}:
                books.setdefault((place, name), Books(Scope(name), store, now))
        yield list(books.values())
    finally:
        for store in stores.values():
            store.close()


def _is_there(settings: Settings) -> bool:
    """Return whether the app has a database. Opening one of a laptop would make it."""
    return settings.environment.mode != "embedded" or (settings.environment.data / "data.sqlite3").exists()


def _rows(books: Sequence[Books], by: str | None, period: Period) -> list[Row]:
    if by == "user":
        return _by_user(books, period)
    step = "hour" if period.is_day else "day"
    reports = [(each, each.report(period.start, period.end, step)) for each in books]
    if by == "app":
        rows = [_row(each.app.app_id, report.totals()) for each, report in reports]
    elif by is not None:
        part = _PARTS[by]
        rows = [row for _, report in reports for row in report.by(part)]
    else:
        rows = [_row(at, point) for _, report in reports for at, point in report.points.items()]
        return sorted(_added(rows), key=lambda row: row["name"])
    return sorted(_added(rows), key=lambda row: (-row["cost_micro_usd"], row["name"]))


def _by_user(books: Sequence[Books], period: Period) -> list[Row]:
    rows = [_row("others", {})]
    for each in books:
        of_app = f"{each.app.app_id}: " if len(books) > 1 else ""
        users = dearest_users(each.store, each.app, period.name, _MOST_USERS)
        rows += [_row(f"{of_app}{user['uid']}", user) for user in users]
        total = each.report(period.start, period.end).totals()
        rows.append(_row("others", {name: total[name] - sum(int(user[name]) for user in users) for name in _FIGURES}))
    dearest = sorted(_added(rows), key=lambda row: (row["name"] == "others", -row["cost_micro_usd"]))
    return [row for row in dearest if row["name"] != "others" or row["cost_micro_usd"]]


def _by_month(books: Sequence[Books], months: int, now: datetime) -> list[Row]:
    start = Period(f"{now:%Y-%m}").start
    for _ in range(months - 1):
        start = (start - timedelta(days=1)).replace(day=1)
    rows = [_row(at[: len("yyyy-mm")], point) for each in books for at, point in each.report(start, now).points.items()]
    return sorted(_added(rows), key=lambda row: row["name"])


def _forecast(books: Sequence[Books], now: datetime) -> Forecast:
    """Return what this month will cost: what it has, and for each day that is left the mean of the last full days.

    The rest of today counts with what today lacks of that mean. Days before the app's first costs don't count.
    """
    month, today = Period(f"{now:%Y-%m}"), Period(f"{now:%Y-%m-%d}")
    first = today.start - timedelta(days=_FULL_DAYS)
    days: dict[str, int] = {}
    for each in books:
        for at, point in each.report(min(first, month.start), now).points.items():
            days[at] = days.get(at, 0) + point["cost_micro_usd"]
    spent = sum(cost for at, cost in days.items() if at.startswith(month.name))
    full = [cost for at, cost in sorted(days.items()) if f"{first:%Y-%m-%d}" <= at < today.name]
    while full and not full[0]:
        full.pop(0)
    so_far = days.get(today.name, 0)
    mean = sum(full) // len(full) if full else so_far
    left = (month.end - today.end).days
    return Forecast(spent + max(0, mean - so_far) + left * mean, len(full))


def _row(name: str, figures: Any) -> Row:
    return {"name": name, **{figure: int(figures.get(figure, 0)) for figure in _FIGURES}}


def _added(rows: Sequence[Row]) -> list[Row]:
    added: dict[str, Row] = {}
    for row in rows:
        own = added.setdefault(row["name"], _row(row["name"], {}))
        for figure in _FIGURES:
            own[figure] += row[figure]
    return list(added.values())


def _named(books: Sequence[Books]) -> str:
    names = sorted(each.app.app_id for each in books)
    return names[0] if len(names) == 1 else f"{len(names)} apps"
