"""Crawling one site: pages that link to one another, nearest first, within limits of depth and number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import urljoin

from ...errors import DocumentUnreadable, FetchRefused
from ..parse import links
from .addresses import Target
from .fetch import Fetched, Fetcher

__all__ = ["CrawlLimits", "Skipped", "WebPage", "crawl"]


@dataclass(frozen=True, slots=True)
class CrawlLimits:
    """How far a crawl goes.

    Args:
        depth: links from the first page; 0 is that page alone.
        pages: addresses that are tried, whether they give a page or not.
        delay: seconds between two requests; more where robots.txt asks for it.
        most_delay: seconds at most; a site that asks for more is crawled at this pace.
    """

    depth: int = 2
    pages: int = 50
    delay: float = 0.5
    most_delay: float = 10.0


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page that was fetched; ``file`` is open until the next one is asked for."""

    fetched: Fetched
    depth: int
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An address that gave no page, and why, in words for the user."""

    url: str
    reason: str


def crawl(
    url: str,
    fetcher: Fetcher,
    limits: CrawlLimits | None = None,
    *,
    progress: Callable[[float], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[WebPage | Skipped]:
    """The pages of a site, that is of one scheme, host and port, each once, breadth first.

    Links in scripts are not seen, and those marked ``rel=nofollow`` not followed. A page that redirects to another site
    is skipped, and so is one that redirects to a page that was seen.

    Args:
        url: the first page. Where it redirects, its site is the one it leads to.
        fetcher: what fetches, with its limits for each page.
        limits: how far to go.
        progress: called with the fraction of the addresses known so far that were tried.
        pause: waits for a number of seconds.

    Raises:
        FetchRefused: the first page cannot be fetched.
    """
    limits = limits or CrawlLimits()
    first = fetcher.target(url)
    waiting = deque([(first, 0)])
    known = {first.url}
    given: set[str] = set()
    site: tuple[str, str, int] | None = None
    tried = 0
    while waiting and tried < limits.pages:
        target, depth = waiting.popleft()
        if tried:
            pause(min(max(limits.delay, fetcher.crawl_delay(target)), limits.most_delay))
        tried += 1
        with TemporaryFile() as file:
            try:
                fetched = fetcher.fetch(target.url, file)
                site = site or fetcher.target(fetched.url).origin
                _check_site(fetcher.target(fetched.url), site)
            except FetchRefused as refused:
                if tried == 1:
                    raise
                yield Skipped(target.url, refused.message)
                continue
            if fetched.url not in given:
                given.add(fetched.url)
                if depth < limits.depth:
                    for link in _links(fetched, file, fetcher, site):
                        if link.url not in known and len(known) < 10 * limits.pages:
                            known.add(link.url)
                            waiting.append((link, depth + 1))
                file.seek(0)
                yield WebPage(fetched, depth, file)
        progress(tried / min(limits.pages, tried + len(waiting)))


def _check_site(target: Target, site: tuple[str, str, int]) -> None:
    if target.origin != site:
        raise FetchRefused("other_site", "The page leads to another site.")


def _links(fetched: Fetched, file: IO[bytes], fetcher: Fetcher, site: tuple[str, str, int]) -> Iterator[Target]:
    """Links of a page to its own site; what is no URL that may be fetched is passed over."""
    if fetched.content_type not in {"text/html", "application/xhtml+xml", ""}:
        return
    file.flush()
    try:
        base, *found = links(file)
    except DocumentUnreadable:
        return
    for reference in found:
        try:
            target = fetcher.target(reference, urljoin(fetched.url, base))
        except (FetchRefused, ValueError):
            continue
        if target.origin == site:
            yield target
