"""Upload the demo's documents: pages of this repository's docs as PDF, HTML and Markdown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from firelaunch.testing.documents import lines_of, pdf

from .client import Client
from .conversation import note, step

__all__ = ["QUESTIONS", "show_sources", "upload"]

QUESTIONS = (
    "What can a compromised app service read?",
    "How do I give a new prompt version to a tenth of the users?",
    "Why is the cache off by default?",
)
"""One question for each document: the PDF, the HTML page and the Markdown file."""

_LINES_A_PAGE = 48
_SECONDS = 60.0


def upload(client: Client, docs: Path) -> None:
    """Upload the documents and wait until they can be searched.

    Raises:
        ClickException: a document could not be read, or the wait took too long.
    """
    began = time.monotonic()
    files, pages = _files(docs)
    step(f"Uploading documents, made from docs/: {', '.join(files)}")
    waiting = [client.upload("/v1/uploads", name, content)["id"] for name, content in files.items()]
    chunks = 0
    with click.progressbar(length=100 * len(files), label="        indexing") as bar:
        while waiting:
            states = [client.get(f"/v1/documents/{document}") for document in waiting]
            _check(states, began)
            ready = [state for state in states if state["status"] == "ready"]
            chunks += sum(state["chunks"] for state in ready)
            waiting = [state["id"] for state in states if state["status"] != "ready"]
            under_way = sum(int(100 * state["progress"]) for state in states if state not in ready)
            bar.update(100 * (len(files) - len(waiting)) + under_way - bar.pos)
            time.sleep(0.05 if waiting else 0)
    note(f"{pages} pages of PDF, a web page and a Markdown file: {chunks} chunks, {time.monotonic() - began:.1f} s")


def show_sources(message: dict[str, Any]) -> None:
    """Print the sources of the passages that an answer cites."""
    for source in message["citations"]:
        place = [source["title"]]
        if source["page"]:
            last = source["last_page"]
            several = last not in {None, source["page"]}
            place.append(f"pages {source['page']} to {last}" if several else f"page {source['page']}")
        place += [" > ".join(source["headings"])] if source["headings"] else []
        note(f"[{source['number']}] {', '.join(place)}")


def _check(states: list[dict[str, Any]], began: float) -> None:
    for state in states:
        if state["status"] == "failed":
            raise click.ClickException(f"{state['name']} could not be read: {state['error']['message']}")
    if time.monotonic() - began > _SECONDS:
        raise click.ClickException(f"The documents were not ready after {_SECONDS:.0f} s.")


def _files(docs: Path) -> tuple[dict[str, bytes], int]:
    """Return the documents by name, and the number of the PDF's pages."""
    from markdown_it import MarkdownIt

    lines = lines_of((docs / "threat-model.md").read_text(encoding="utf-8"))
    pages = [lines[first : first + _LINES_A_PAGE] for first in range(0, len(lines), _LINES_A_PAGE)]
    html = MarkdownIt("commonmark").enable("table").render((docs / "prompts.md").read_text(encoding="utf-8"))
    page = f"<!doctype html><html><head><title>Prompts</title></head><body><main>{html}</main></body></html>"
    files = {
        "threat-model.pdf": pdf(pages),
        "prompts.html": page.encode(),
        "caching.md": (docs / "caching.md").read_bytes(),
    }
    return files, len(pages)
