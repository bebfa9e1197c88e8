"""``make test-web``: people's ways through the web client in Chromium, and its figures in build/web.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import BROWSER, NO_BROWSER
from firelaunch.testing.stripe import StripeServer, WebhookDelivery
from firelaunch_cli.deploy.web_build import BuildFailed
from javascript import NoJavaScript, install
from support import ROOT, copy_example, free_port, served

from .accounts import signing_in
from .hosting import hosted
from .parts import APP, PlayedModel, served_app
from .site import build_site, example_site

_HERE = Path(__file__).parent
REPORT = ROOT / "build" / "web.json"

_PLANS = [
    {"name": "free", "requests_per_minute": 200, "daily_micro_usd": 500_000, "features": [], "for_sale": False},
    {"name": "pro", "requests_per_minute": 60, "daily_micro_usd": 10_000_000, "features": [], "for_sale": True},
    {"name": "payg", "requests_per_minute": 60, "daily_micro_usd": 20_000_000, "features": [], "for_sale": False},
]


def run(short: bool, only: str = "", report: Path = REPORT) -> int:
    """Run the scenarios.

    Args:
        short: leave out the long ones.
        only: run those alone whose names hold one of these words, with "|" between them.
        report: where the figures are kept, and in a folder beside it the pictures.

    Returns:
        the exit code: 0 where all hold, 1 where not.

    Raises:
        NoJavaScript: Node or the packages cannot be had.
        BuildFailed: the client does not build.
    """
    dist = build_site()
    driver = install(_HERE, "driver.mjs", ROOT / "build" / "web-driver") / "driver.mjs"
    shots = report.with_suffix("")
    shots.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        PlayedModel() as model,
        StripeServer(pages=True) as stripe,
        _example(Path(scratch) / "mealcoach", not only or "collection" in only) as meals,
    ):
        line = f"http://127.0.0.1:{free_port()}"
        config = {
            "app": APP,
            "mode": "embedded",
            "api": "",
            "plans": _PLANS,
            "top_ups": ["ten"],
            "sign_in": ["email_link"],
        }
        with (
            hosted(dist, config) as host,
            served_app(Path(scratch) / "my-app", model, stripe, host.url) as server,
            WebhookDelivery(stripe, f"{server.url}/dev/stripe"),
            hosted(dist, {**config, "api": line}, line) as lossy,
        ):
            host.config["api"] = server.url
            host.connect.append(server.url)
            told = {
                "BROWSER": BROWSER or "",
                "URL": host.url,
                "MEALS": meals,
                "LOSSY": lossy.url,
                "LINE": line.rpartition(":")[2],
                "FIREBASE": f"/assets/{next(dist.glob('assets/firebase-*.js')).name}",
                "API": server.url,
                "REPORT": str(report),
                "SHOTS": str(shots),
                "SHORT": "1" if short else "",
                "ONLY": only,
            }
            with signing_in(Path(scratch) / "signing-in", dist) as accounts:
                told |= {"ACCOUNTS": accounts.host.url, "INVITE": accounts.invite}
                return subprocess.run(["node", driver], env={**os.environ, **told}, check=False).returncode


@contextmanager
def _example(folder: Path, wanted: bool) -> Iterator[str]:
    """The address of the example with a page of its own, which serves its client itself; empty if it is not wanted."""
    if not wanted:
        yield ""
        return
    with served(copy_example(folder.name, folder), FIRELAUNCH_WEB=str(example_site(folder.name))) as server:
        yield server.url


def main() -> int:
    """Run it; the exit code is 2 where Node or the browser is missing."""
    if BROWSER is None:
        sys.stderr.write(f"{NO_BROWSER}\n")
        return 2
    try:
        code = run(bool(os.environ.get("SHORT")), os.environ.get("ONLY", ""))
    except (NoJavaScript, BuildFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = json.loads(REPORT.read_text())
    sys.stdout.write(
        json.dumps({name: report[name] for name in ("kb_before_typing", "axe_violations", "scenarios", "failed")})
        + "\n"
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
