"""``firelaunch costs`` adds up what the apps' sums have, to the micro-dollar."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch.metering.sums import hour_write, user_writes
from firelaunch.scope import Scope
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.commands import main
from firelaunch_cli.commands.costs import Period, _forecast

NOW = datetime.now(UTC).replace(minute=30)
MONTH = f"{NOW:%Y-%m}"


def spend(folder: Path, app: str, at: datetime, uid: str, micro: int, cell: str = "m|chat@1|free|turn|stop") -> None:
    """Add one call to the sums of an app, as a settlement does."""
    store = SQLiteStore(folder / "data.sqlite3")
    scope = Scope(app).of(uid)
    figures = {"calls": 1, "cost_micro_usd": micro, "input_tokens": 10, "output_tokens": 2}
    store.commit([hour_write(scope, f"{at:%Y-%m-%dT%H}", {"calls": {cell: figures}})])
    store.commit([*user_writes(scope, f"{at:%Y-%m-%d}", figures)])
    store.close()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repo with two apps that have a database, and one that was never run."""
    repo = tmp_path / "repo"
    (repo / "template").mkdir(parents=True)
    (repo / "cookiecutter.json").write_text("{}")
    for name in ("shop", "zoo", "new"):
        write_app(repo / "apps" / name, SETTINGS.replace('id = "demo"', f'id = "{name}"'))
    monkeypatch.chdir(repo)
    return repo


def data(repo: Path, app: str) -> Path:
    return repo / "apps" / app / ".firelaunch"


def costs(*arguments: str) -> Any:
    done = CliRunner().invoke(main, ["costs", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def named(found: Any) -> dict[str, int]:
    return {row["name"]: row["cost_micro_usd"] for row in found["rows"]}


def test_days_without_calls_are_left_out_and_what_costs_nothing_says_why(repo: Path) -> None:
    spend(data(repo, "shop"), "shop", NOW, "ada", 0, "offline|chat@1|free|turn|stop")
    said = CliRunner().invoke(main, ["costs", "apps/shop"]).output.splitlines()
    assert [line for line in said if line.startswith(MONTH)] == [f"{NOW:%Y-%m-%d}  $0.00"], said
    assert "Answers of the offline model cost nothing." in said
    assert said[-1] == "There is no forecast yet: nothing was spent."


def test_with_a_price_the_offline_models_answers_are_not_said_to_cost_nothing(repo: Path) -> None:
    spend(data(repo, "shop"), "shop", NOW, "ada", 1885, "offline|chat@1|free|turn|stop")
    said = CliRunner().invoke(main, ["costs", "apps/shop"]).output
    assert "$0.001885" in said
    assert "nothing" not in said
    assert "7 full days" not in said, "there are none"


def test_this_month_is_told_by_day_and_by_whatever_tells_calls_apart(repo: Path) -> None:
    folder = data(repo, "shop")
    spend(folder, "shop", NOW, "ada", 1_000_001)
    spend(folder, "shop", NOW, "bob", 30, "n|-|pro|meal|length")
    spend(folder, "shop", NOW, "ada", 7, "n|-|pro|turn|stop")
    spend(folder, "shop", NOW - timedelta(days=40), "eve", 500)
    assert named(costs("shop"))[f"{NOW:%Y-%m-%d}"] == 1_000_038
    assert costs("shop")["cost_micro_usd"] == 1_000_038
    assert named(costs("shop", "--by", "model")) == {"m": 1_000_001, "n": 37}
    assert named(costs("shop", "--by", "prompt")) == {"chat@1": 1_000_001, "-": 37}
    assert named(costs("shop", "--by", "feature")) == {"turn": 1_000_008, "meal": 30}
    assert named(costs("shop", "--by", "user")) == {"ada": 1_000_008, "bob": 30}
    assert named(costs("shop", "--by", "user", "--in", f"{NOW:%Y-%m-%d}")) == {"ada": 1_000_008, "bob": 30}
    assert named(costs("shop", "--in", f"{NOW:%Y-%m-%d}"))[f"{NOW:%Y-%m-%dT%H}"] == 1_000_038
    months = named(costs("shop", "--months", "3"))
    assert sum(months.values()) == 1_000_538
    assert months[MONTH] == 1_000_038


def test_what_no_user_is_named_for_is_told_as_that_of_others(repo: Path) -> None:
    spend(data(repo, "shop"), "shop", NOW, "ada", 5)
    store = SQLiteStore(data(repo, "shop") / "data.sqlite3")
    store.delete_tree("apps/shop/user_sums")
    store.close()
    assert named(costs("shop", "--by", "user")) == {"others": 5}


def test_all_apps_are_those_of_the_repo_and_those_in_their_databases(repo: Path) -> None:
    spend(data(repo, "shop"), "shop", NOW, "ada", 5)
    spend(data(repo, "shop"), "left-by-another-repo", NOW, "ada", 11)
    spend(data(repo, "zoo"), "zoo", NOW, "eve", 20)
    assert named(costs("--by", "app")) == {"zoo": 20, "left-by-another-repo": 11, "shop": 5}
    every = costs("--all-apps", "--by", "user")
    assert named(every) == {"zoo: eve": 20, "left-by-another-repo: ada": 11, "shop: ada": 5}
    assert costs("--all-apps")["cost_micro_usd"] == 36
    assert not data(repo, "new").exists(), "an app that was never run gets no database by asking"


def test_piped_it_is_plain_and_a_terminal_sees_bars_of_its_width(repo: Path) -> None:
    spend(data(repo, "shop"), "shop", NOW, "ada", 1_000_000)
    spend(data(repo, "shop"), "shop", NOW, "ada", 500_000, "half|-|free|turn|stop")
    plain = CliRunner().invoke(main, ["costs", "shop", "--by", "model"]).output
    assert plain.splitlines() == ["m     $1.00", "half  $0.50", f"shop, {MONTH}: $1.50"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "firelaunch_cli", "costs", "shop", "--by", "model"]
    subprocess.run(command, stdout=theirs, env={**environ, "PYTHONIOENCODING": "utf-8"}, check=True)
    first, second, _ = os.read(ours, 4096).decode().split("\r\n")[:3]
    assert first.count("█") == 60 - len("half") - len("$1.00") - 5
    assert len(first) < 60
    assert abs(second.count("█") * 2 - first.count("█")) <= 1


@pytest.mark.parametrize("arguments", [("--in", "2026-13"), ("--in", "soon"), ("--months", "2", "--by", "user")])
def test_what_makes_no_sense_is_refused(repo: Path, arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["costs", "shop", *arguments]).exit_code == 2


class Day:
    """Books whose days are given."""

    def __init__(self, days: dict[str, int]) -> None:
        self.days = days

    def report(self, *_: Any) -> Any:
        return type("R", (), {"points": {at: {"cost_micro_usd": cost} for at, cost in self.days.items()}})


@pytest.mark.parametrize(
    ("days", "forecast", "assumed"),
    [
        ({}, 0, "nothing was spent"),
        ({"2026-03-10": 5}, 5 + 21 * 5, "costs as much as today so far."),  # the first day: it is all that is known
        (
            {"2026-03-03": 0, "2026-03-04": 10, "2026-03-05": 20, "2026-03-10": 4},
            34 + 11 + 21 * 15,
            "costs the average of the last 2 full days.",
        ),
        (
            {"2026-03-01": 1000, "2026-03-09": 7, "2026-03-10": 50},
            1057 + 0 + 21 * 7,
            "costs as much as the last full day.",
        ),
    ],
)
def test_the_forecast_is_what_was_spent_and_the_mean_of_the_last_days_for_each_that_is_left(
    days: dict[str, int], forecast: int, assumed: str
) -> None:
    found = _forecast([Day(days)], datetime(2026, 3, 10, 12, tzinfo=UTC))  # type: ignore[list-item]
    assert found.micro_usd == forecast
    assert assumed in found.sentence("2026-03")


def test_a_period_ends_where_the_next_begins() -> None:
    assert Period("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)
    assert Period("2026-02-28").end == datetime(2026, 3, 1, tzinfo=UTC)
