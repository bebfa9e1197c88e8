"""Measure telemetry: CPU at many streams with and without it, and whether the spans' costs are the ledger's.

Two servers share a core, one with telemetry and one without, as in ``bench/relay.py``. They are asked by turns; the
ratio is the median of those of neighbours, as the machine drifts. With telemetry each trace is sampled, and spans
and metrics go to a collector by OTLP over HTTP.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from firelaunch.telemetry.names import COST
from firelaunch.testing.collector import OtlpCollector
from firelaunch.testing.models import Fault, ModelServer, Reply

from bench import relay
from bench.report import Report, progress, size

PAIRS = size(16, 1)
TURNS, USERS = size((300, 10), (12, 3))


def main() -> None:
    """Measure and report."""
    report = Report("telemetry")
    loads, ratios = {"off": relay.Load(), "on": relay.Load()}, []
    with relay.upstream() as port, OtlpCollector() as collector, ExitStack() as servers:
        environs: dict[str, dict[str, str]] = {"off": {}, "on": {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}}
        targets = {
            name: servers.enter_context(relay.ours(port, relay.MOST, True, **environ))
            for name, environ in environs.items()
        }
        with progress("telemetry", 2 * PAIRS) as step:
            for number in range(PAIRS):
                pair = {}
                for name in ("off", "on")[:: -1 if number % 2 else 1]:
                    own = relay.Load()
                    relay.measure(targets[name], relay.MOST, True, own)
                    pair[name] = own.cpu_per_100_000
                    add(own, loads[name])
                    step()
                ratios.append(pair["on"] / pair["off"])
    calls = sum(span.name.startswith("chat ") for span in collector.spans)
    report.row("on", "model calls without a span", loads["on"].asked + 1 - calls, "calls")
    for name, load in loads.items():
        case = f"{relay.MOST} streams, {name}"
        report.row(case, "CPU per 100,000 tokens", load.cpu_per_100_000, "s")
        report.row(case, "failed", load.failed, "streams")
        report.row(case, "time to first token, p95", relay.percentile(load.firsts, 95) * 1000, "ms")
    for ratio in ratios:
        report.row("on, against off beside it", "CPU", ratio, "of it")
    report.ratio(f"cpu_on_vs_off_{relay.MOST}", statistics.median(ratios))
    report.ratio("span_cost_difference_micro_usd", cost_difference(report))
    report.write()


def add(own: relay.Load, load: relay.Load) -> None:
    """Add one round to what a server has had so far."""
    load.cpu += own.cpu
    load.tokens += own.tokens
    load.asked += own.asked
    load.failed += own.failed
    load.firsts += own.firsts


def cost_difference(report: Report) -> int:
    """Return the micro-dollars by which the spans' costs differ from what users were charged, after many failures."""
    replies = random.Random(18)  # noqa: S311 - keeps no secret
    with OtlpCollector() as collector, ModelServer() as models, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "app"
        shutil.copytree(relay.TEMPLATE, folder, ignore=shutil.ignore_patterns(".firelaunch", "__pycache__"))
        toml = folder / "firelaunch.toml"
        text = toml.read_text().replace("requests_per_minute = 20\n", "requests_per_minute = 1000000\n")
        toml.write_text(text.replace('daily_usd = "0.50"', 'daily_usd = "1000000"'))
        own = relay.free_port()
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OPENAI_BASE_URL": models.base_url,
            "OPENAI_API_KEY": "none",
            "PORT": str(own),
        }
        command = [relay.sys.executable, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config"]
        with relay.process([*command, "app:create_app()"], own, core=relay.SERVER_CORE, cwd=folder, env=environ):
            tokens = [str(relay.call(own, "/dev/token", {"uid": f"u{n}"}, None)["token"]) for n in range(USERS)]
            chats = [str(relay.call(own, "/v1/chats", {}, token)["id"]) for token in tokens]
            for number in range(TURNS):
                models.script += [Fault(500)] * replies.choice([0, 0, 0, 1, 2])
                models.script += [Reply(words=["word "] * replies.randrange(1, 40))]
                path = f"/v1/chats/{chats[number % USERS]}/messages"
                relay.call(own, path, {"text": "Hello"}, tokens[number % USERS])
            charged = sum(usage(own, token) for token in tokens)
        traced = sum(int(span.attributes[COST]) for span in collector.spans if COST in span.attributes)
    report.row("the ledger", "charged", charged, "micro-dollars")
    report.row("the spans", "sum of their costs", traced, "micro-dollars")
    return traced - charged


def usage(port: int, token: str) -> int:
    """Return the micro-dollars of a user's day."""
    request = relay.urllib.request.Request(f"http://127.0.0.1:{port}/v1/usage")
    request.add_header("Authorization", f"Bearer {token}")
    with relay.urllib.request.urlopen(request, timeout=60) as answer:
        return int(json.load(answer)["cost_micro_usd"])
