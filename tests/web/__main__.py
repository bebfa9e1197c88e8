"""``make test-web``: people's ways through the web client in Chromium, and its figures in build/web.json."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from browser import BROWSER, NO_BROWSER
from firelaunch.testing.stripe import StripeServer, WebhookDelivery
from firelaunch_cli.deploy.web_build import BuildFailed
from javascript import NoJavaScript, install
from support import ROOT, copy_example, free_port, served

from .accounts import signing_in, signing_in_at
from .auth_emulator import FIREBASE, auth_emulator
from .hosting import hosted
from .parts import APP, PlayedModel, served_app
from .site import build_site, example_site

_HERE = Path(__file__).parent
REPORT = ROOT / "build" / "web.json"
_LIGHTHOUSE = "lighthouse"
_SCENARIOS = re.findall(r'scenario\("([^"]+)"', (_HERE / "driver.mjs").read_text())
_FIGURES = (
    *("kb_before_typing", "axe_violations", "lighthouse_accessibility", "lighthouse_best_practices"),
    *("scenarios", "failed"),
)

_PLANS = [
    {"name": "free", "requests_per_minute": 200, "daily_micro_usd": 500_000, "features": [], "for_sale": False},
    {"name": "pro", "requests_per_minute": 60, "daily_micro_usd": 10_000_000, "features": [], "for_sale": True},
    {"name": "payg", "requests_per_minute": 60, "daily_micro_usd": 20_000_000, "features": [], "for_sale": False},
]


def run(short: bool, only: str = "", report: Path = REPORT) -> int:
    """Run the scenarios.

    Args:
        short: leave out the long ones, and Lighthouse.
        only: run those alone whose names hold one of these words, with "|" between them; "lighthouse" is Lighthouse.
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
        _example(Path(scratch) / "mealcoach", _wanted("an app's own collection", only)) as meals,
    ):
        line = f"http://127.0.0.1:{free_port()}"
        config = {
            "app": APP,
            "mode": "embedded",
            "api": "",
            "plans": _PLANS,
            "suggestions": ["short and sweet", "markdown please"],
            "top_ups": ["ten"],
            "sign_in": ["email_link"],
            "groups": True,
            "group_chats": True,
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
            emulated = FIREBASE is not None and not short and _wanted("at the Auth emulator", only)
            with (
                _accounts(Path(scratch), dist) if _wanted("with Firebase", only) else nullcontext({}) as accounts,
                _at_emulator(Path(scratch), dist) if emulated else nullcontext({}) as at_emulator,
            ):
                code = _node(driver, {**told, **accounts, **at_emulator})
            looks = not short and (not only or _LIGHTHOUSE in only.split("|"))
            return (_node(_lighthouse(), told) or code) if looks else code


def _wanted(begins: str, only: str) -> bool:
    """Whether any scenario runs whose name begins so."""
    names = (name for name in _SCENARIOS if name.startswith(begins))
    return any(not only or any(word in name for word in only.split("|")) for name in names)


@contextmanager
def _accounts(scratch: Path, dist: Path) -> Iterator[dict[str, str]]:
    with signing_in(scratch / "signing-in", dist) as accounts:
        yield {"ACCOUNTS": accounts.host.url, "INVITE": accounts.invite}


@contextmanager
def _at_emulator(scratch: Path, dist: Path) -> Iterator[dict[str, str]]:
    with (
        auth_emulator("demo-web", scratch / "emulator") as host,
        signing_in_at(host, scratch / "at-emulator", dist) as accounts,
    ):
        yield {"EMULATED": accounts.host.url, "EMULATED_INVITE": accounts.invite, "EMULATOR": f"http://{host}"}


def _node(script: Path, told: dict[str, str]) -> int:
    return subprocess.run(["node", script], env={**os.environ, **told}, check=False).returncode


def _lighthouse() -> Path:
    folder = install(_HERE / "lighthouse", "driver.mjs", ROOT / "build" / "web-lighthouse")
    return folder / "driver.mjs"


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
    sys.stdout.write(json.dumps({name: report[name] for name in _FIGURES if name in report}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
