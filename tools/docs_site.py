"""Builds the documents as a site: ``make docs-site``. Its pages are those of docs/, which can be read there, too.

The tasks of docs/README.md become the navigation. Links to code, which the site does not hold, become plain text.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "docs"
BESIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages that stand beside docs/; the site has them as ``start.md`` and so on."""

PICTURES = ROOT / "build" / "pictures"
"""What ``make pictures`` took. A page says where one belongs: ``<!-- picture: ops, The page for admins -->``."""

_PICTURE = re.compile(r"^<!-- picture: (\w+), ([^\n]*) -->\n(```mermaid\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
"""A picture's place. A diagram that follows is drawn in it; without the picture, the reader's browser draws it."""
STYLE = """\
.md-typeset td:first-child code { white-space: nowrap; }
@media (max-width: 30rem) { .md-typeset table:not([class]) :is(td, th) { padding: 0.5em 0.7em; } }
.md-typeset img { border: 1px solid var(--md-default-fg-color--lightest); }
"""
"""Names in a table's first column stay whole, a phone shows more of a table, and pictures have an edge."""

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def place_of(file: Path) -> Path | None:
    """Where the site has a file of the repo, below its root; None if it does not."""
    if file.is_relative_to(DOCS) and file.suffix == ".md":
        return Path("index.md") if file == DOCS / "README.md" else file.relative_to(DOCS)
    if file.parent == ROOT and file.name in BESIDE:
        return Path("start.md" if file.name == "README.md" else file.name.lower())
    return None


def _place(file: Path) -> Path:
    place = place_of(file)
    if place is None:
        raise LookupError(f"the site has no {file}")
    return place


def page(file: Path) -> str:
    """Return a page with its links as the site needs them."""
    own = _place(file)

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if not target:
            return found[0]
        there = place_of((file.parent / target).resolve())
        if there is None:
            return text
        up = "../" * (len(own.parts) - 1)
        return f"[{text}]({up}{there.as_posix()}{anchor})"

    def picture(found: re.Match[str]) -> str:
        name, says = f"{found[1]}.png", found[2]
        up = "../" * (len(own.parts) - 1)
        return f"![{says}]({up}pictures/{name})\n" if (PICTURES / name).is_file() else found[3] or ""

    parts = _FENCE.split(re.sub(r"^<!-- [\w ]+ -->\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE))
    linked = "".join(part if _FENCE.fullmatch(part) else _LINK.sub(link, part) for part in parts)
    return _PICTURE.sub(picture, linked)


def pages() -> Iterator[Path]:
    """Every page of the site, as the repo has it."""
    yield from (ROOT / name for name in BESIDE)
    yield from sorted(DOCS.rglob("*.md"))


def navigation() -> list[dict[str, object]]:
    """Return the site's sections: the headings of docs/README.md, each with the pages that it links to."""
    whole = (DOCS / "README.md").read_text(encoding="utf-8")
    first, *sections = re.split(r"^## ", whole, flags=re.MULTILINE)
    found: list[dict[str, object]] = [{"Start": [{"What do you want to do?": "index.md"}, *_linked(first)]}]
    for section in sections:
        title, _, text = section.partition("\n")
        found.append({title: list(_linked(text))})
    decisions = [{_title(file): f"adr/{file.name}"} for file in sorted((DOCS / "adr").glob("0*.md"))]
    return [*found, {"Decisions": decisions}]


def _linked(text: str) -> Iterator[dict[str, str]]:
    seen = set()
    for found in _LINK.finditer(text):
        there = place_of((DOCS / found[2]).resolve())
        if there is not None and there not in seen and not found[3]:
            seen.add(there)
            yield {found[1][:1].upper() + found[1][1:]: there.as_posix()}


def _title(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def prepare(folder: Path) -> Path:
    """Write the pages and the configuration below ``folder``, and return the configuration's path."""
    shutil.rmtree(folder / "pages", ignore_errors=True)
    for file in pages():
        target = folder / "pages" / _place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(file), encoding="utf-8")
    (folder / "pages" / "site.css").write_text(STYLE, encoding="utf-8")
    for file in PICTURES.glob("*.png"):
        (folder / "pages" / "pictures").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "pages" / "pictures" / file.name)
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    more = {"docs_dir": "pages", "site_dir": "site", "extra_css": ["site.css"], "nav": navigation()}
    config = folder / "mkdocs.yml"
    config.write_text(text + yaml.safe_dump(more, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return config


def tools() -> Path:
    """Return the folder of the site's generator; install it first if it is not there as its lock has it."""
    venv, lock = BUILD / "venv", ROOT / "requirements-docs.lock"
    installed = venv / "requirements-docs.lock"
    if installed.is_file() and installed.read_bytes() == lock.read_bytes():
        return venv / "bin"
    uv = ROOT / ".venv" / "bin" / "uv"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv], check=True)  # noqa: S603
    install = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", venv / "bin" / "python", "-r", lock]
    subprocess.run(install, check=True)  # noqa: S603
    shutil.copyfile(lock, installed)
    return venv / "bin"


def main() -> None:
    """Build the site, and fail on any warning, such as a link that leads nowhere."""
    BUILD.mkdir(parents=True, exist_ok=True)
    generator, config = tools() / "zensical", prepare(BUILD)
    built = subprocess.run([generator, "build", "--clean", "--strict", "-f", config], cwd=BUILD, check=False)  # noqa: S603
    if built.returncode:
        sys.exit("The site has warnings; mend them, and run make docs-site again.")
    sys.stdout.write(f"{BUILD / 'site' / 'index.html'}: open it with: python3 -m http.server -d {BUILD / 'site'}\n")


if __name__ == "__main__":
    main()
