"""Take the documents' pictures with Chromium: ``make pictures`` writes them to ``build/pictures``.

They show an app with two days of use: the page to try it, the web client, the page for admins and a report of
``firelaunch eval``. The diagrams that pages write as Mermaid are drawn, too. Without Node there are no pictures of the
client and of diagrams. No picture is in the repository; ``make docs-site`` takes those that are there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from browser import BROWSER, NO_BROWSER, Page, browser, wait_until
from firelaunch.testing.models import ModelServer, Reply
from javascript import NoJavaScript
from ops_seed import seed
from support import PYTHON, ROOT, clean_environ, copy_template, served
from web.site import build_site

OUT = ROOT / "build" / "pictures"
_SIZE = (1200, 800)
_WIDEST = 2400
_MERMAID = "mermaid@12.3.0"
_DIAGRAM = re.compile(r"^<!-- picture: (\w+), [^\n]* -->\n```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCUMENT = "# Delivery\n\nWe deliver to Berlin and Paris within two days. Orders above 50 euros are free of charge.\n"
_ANSWER = ("We deliver to **Berlin** and **Paris** ", "within two days [1]. ", "Above 50 euros it is free [1].")


def main() -> None:
    """Take them all."""
    if BROWSER is None:
        sys.exit(NO_BROWSER)
    with tempfile.TemporaryDirectory() as name, browser(Path(name, "profile")) as page, ModelServer() as model:
        page.resize(*_SIZE)
        folder = copy_template(Path(name, "my-app"))
        settings = folder / "firelaunch.toml"
        text = settings.read_text().replace('daily_usd = "0.50"', 'daily_usd = "50.00"')
        settings.write_text(text.replace("requests_per_minute = 20", "requests_per_minute = 2000"))
        seed(folder, model, each_hour=1)
        model.script.clear()
        model.default = Reply(_ANSWER)
        with served(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url) as server:
            _chat(page, server.url, Path(name))
            _ops(page, server.url)
        _report(page, folder, Path(name))
        try:
            client = str(build_site())
            with served(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url, FIRELAUNCH_WEB=client) as server:
                _client(page, server.url)
            _diagrams(page, Path(name))
        except NoJavaScript as problem:
            sys.stdout.write(f"no pictures of the web client and of diagrams: {problem}\n")


def _chat(page: Page, url: str, scratch: Path) -> None:
    page.go(f"{url}/#user=nora")
    wait_until(lambda: "Signed in as nora" in (page("document.body.innerText") or ""))
    file = scratch / "delivery.md"
    file.write_text(_DOCUMENT)
    page.choose("input[type=file]", file)
    wait_until(lambda: "passage" in (page("document.body.innerText") or ""), seconds=60)
    page("document.querySelector('textarea').focus()")
    page.type("Where do you deliver?")
    page.press("Enter")
    wait_until(lambda: "tokens" in (page("document.body.innerText") or ""), seconds=60)
    _keep(page, "chat")


def _client(page: Page, url: str) -> None:
    page.go(url)
    page.click("button", "Sign in")
    page.until("textarea")
    page("document.querySelector('textarea').focus()")
    page.type("Where do you deliver?")
    page.press("Enter")
    wait_until(lambda: "Above 50 euros" in (page("document.body.innerText") or ""), seconds=60)
    _keep(page, "client")


def _diagrams(page: Page, scratch: Path) -> None:
    """Draw each Mermaid diagram that a page marks as a picture."""
    subprocess.run(["npm", "pack", "--silent", _MERMAID], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(scratch.glob("mermaid-*.tgz"))) as packed:
        packed.extract("package/dist/mermaid.min.js", scratch, filter="data")
    empty = scratch / "diagram.html"
    empty.write_text('<!doctype html><script src="package/dist/mermaid.min.js"></script><div id="there"></div>')
    for file in sorted((ROOT / "docs").rglob("*.md")):
        for name, source in _DIAGRAM.findall(file.read_text()):
            page.resize(*_SIZE)
            page.go(empty.as_uri())
            page(f"mermaid.render('d', {json.dumps(source)}).then(({{svg}}) => {{ there.innerHTML = svg }})")
            width, height = page(
                "(() => { const box = there.firstChild.viewBox.baseVal; there.firstChild.style.maxWidth = 'none';"
                "document.body.style.margin = 0; there.firstChild.setAttribute('width', box.width);"
                "return [box.width, box.height] })()"
            )
            page.resize(min(round(width), _WIDEST), round(height))
            _keep(page, name)
    page.resize(*_SIZE)


def _ops(page: Page, url: str) -> None:
    page.go(f"{url}/ops#view=overview&range=yesterday")
    page.click("#sign-in button", "Sign in")
    page.until("#as", "root")
    wait_until(lambda: page("document.getElementById('view').ariaBusy === 'false' && !!view.dataset.shows"))
    _keep(page, "ops")


def _report(page: Page, app: Path, scratch: Path) -> None:
    report = scratch / "report.html"
    command = [PYTHON, "-m", "firelaunch_cli", "eval", str(app), "--html", str(report)]
    subprocess.run(command, env=clean_environ(), cwd=app, check=False, stdout=subprocess.DEVNULL)
    if report.is_file():
        page.go(report.as_uri())
        _keep(page, "report")


def _keep(page: Page, name: str) -> None:
    page.screenshot(OUT / f"{name}.png")
    sys.stdout.write(f"{OUT / name}.png\n")


if __name__ == "__main__":
    main()
