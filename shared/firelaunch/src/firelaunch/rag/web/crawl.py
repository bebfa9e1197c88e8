"""Crawl one site: pages that link to one another, nearest first, within limits of depth and number."""

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
    """The limits of a crawl.

    Args:
        depth: links from the first page; 0 is the first page only.
        pages: addresses to try, whether they return a page or not.
        delay: seconds between two requests; more if robots.txt asks for it.
        most_delay: the longest delay in seconds, even if a site asks for more.
    """

    depth: int = 2
    pages: int = 50
    delay: float = 0.5
    most_delay: float = 10.0


@dataclass(frozen=True, slots=True)
class WebPage:
    """A fetched page; ``file`` is open until the next page is requested."""

    fetched: Fetched
    depth: int
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An address without a page, and the reason in words for the user."""

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
    """Yield the pages of a site (one scheme, host and port), each once, breadth first.

    Links in scripts are not seen, and those marked ``rel=nofollow`` not followed. A page is skipped if it redirects to
    another site or to a page that was seen already.

    Args:
        url: the first page. If it redirects, its site is the one that it leads to.
        fetcher: fetches the pages, within its own limits for each.
        limits: of the crawl.
        progress: called with the share of the known addresses that were tried.
        pause: waits for a number of seconds.

    Raises:
        FetchRefused: the first page cannot be fetched.
    """
    limits = limits or CrawlLimits()
    first = fetcher.target(url)
    queue = deque([(first, 0)])
    known_urls = {first.url}
    seen_urls: set[str] = set()
    site: tuple[str, str, int] | None = None
    tried = 0
    while queue and tried < limits.pages:
        target, depth = queue.popleft()
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
            if fetched.url not in seen_urls:
                seen_urls.add(fetched.url)
                if depth < limits.depth:
                    for link in _links(fetched, file, fetcher, site):
                        if link.url not in known_urls and len(known_urls) < 10 * limits.pages:
                            known_urls.add(link.url)
                            queue.append((link, depth + 1))
                file.seek(0)
                yield WebPage(fetched, depth, file)
        progress(tried / min(limits.pages, tried + len(queue)))


def _check_site(target: Target, site: tuple[str, str, int]) -> None:
    if target.origin != site:
        raise FetchRefused("other_site", "The page leads to another site.")


def _links(fetched: Fetched, file: IO[bytes], fetcher: Fetcher, site: tuple[str, str, int]) -> Iterator[Target]:
    """Yield a page's links to its own site; skip what may not be fetched."""
    if fetched.content_type not in {"text/html", "application/xhtml+xml", ""}:
        return
    file.flush()
    try:
        base, *references = links(file)
    except DocumentUnreadable:
        return
    for reference in references:
        try:
            target = fetcher.target(reference, urljoin(fetched.url, base))
        except (FetchRefused, ValueError):
            continue
        if target.origin == site:
            yield target
