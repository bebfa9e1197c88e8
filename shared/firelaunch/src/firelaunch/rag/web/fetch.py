"""Fetch a URL that a user names, without reaching addresses that this service can reach and the user cannot.

Every URL and every redirect is parsed and checked (:mod:`firelaunch.rag.web.addresses`). Its host is resolved once,
all its addresses are checked, and the connection goes to one of these. ``robots.txt`` is respected (RFC 9309).
"""

from __future__ import annotations

import posixpath
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote

from ...errors import FetchRefused
from .addresses import Allow, Resolve, Target, addresses_of, is_public, read_url, resolve
from .http import FetchDeadline, WebResponse, exchange

if TYPE_CHECKING:
    from protego import Protego

__all__ = ["AGENT", "FetchLimits", "Fetched", "Fetcher"]

AGENT = "firelaunch"
"""This fetcher's name in ``robots.txt`` and in its requests."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READABLE = re.compile(
    r"text/.*|application/(?:.*\+)?(?:json|xml)|application/(?:pdf|xhtml\+xml|octet-stream|csv|x-ndjson|jsonl|"
    r"vnd\.openxmlformats-officedocument\..*)|"
)
_ROBOTS_BYTES = 500 * 1024
_ROBOTS_SECONDS = 3_600
_ROBOTS_RETRY_SECONDS = 60
_ROBOTS_KEPT = 200


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The limits of one fetch.

    Args:
        bytes: size of the unpacked answer.
        seconds: time from the first connection to the last byte, redirects included. The system's resolver has its own
            limit for resolving a name.
        redirects: the most redirects to follow.
        ports: the ports that may be connected to.
    """

    bytes: int = 25 * 2**20
    seconds: float = 30.0
    redirects: int = 5
    ports: frozenset[int] = frozenset({80, 443})


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of a fetch.

    Args:
        url: the final URL.
        content_type: the site's own, lower case, without parameters; empty if it sent none.
        size: bytes.
    """

    url: str
    content_type: str
    size: int

    @property
    def name(self) -> str:
        """A file name for the document: the last part of the URL's path."""
        return posixpath.basename(unquote(self.url.partition("?")[0].partition("://")[2].partition("/")[2])) or "page"


class Fetcher:
    """A client that fetches URLs. Create one for each process; any number of threads may use it.

    Args:
        limits: of each fetch.
        resolver: resolves host and port to addresses.
        allow: returns whether an address may be connected to. Anything but the default gives up the protection.
        context: TLS settings; by default certificates are verified with the system's authorities.
        clock: seconds, for the age of a robots.txt.
    """

    def __init__(
        self,
        limits: FetchLimits | None = None,
        *,
        resolver: Resolve = resolve,
        allow: Allow = is_public,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or FetchLimits()
        self._resolver = resolver
        self._allow = allow
        self._context = context
        self._clock = clock
        self._robots: OrderedDict[tuple[str, str, int], tuple[float, Protego | None]] = OrderedDict()

    def target(self, url: str, base: str | None = None) -> Target:
        """Parse a URL, or a reference relative to ``base``.

        Raises:
            FetchRefused: the URL may not be fetched, whatever its host's address is.
        """
        return read_url(url, self.limits.ports, base)

    def fetch(self, url: str, into: IO[bytes]) -> Fetched:
        """Fetch a document and write it to ``into``, which holds a part of it if this fails.

        Raises:
            FetchRefused: a URL, redirect or address is not allowed, robots.txt forbids the page, or there is no
                answer, or one that is not 2xx, has no text type, is too large or too slow.
        """
        return self._get(self.target(url), into, FetchDeadline(self.limits.seconds), robots=True)

    def crawl_delay(self, target: Target) -> float:
        """Return the seconds that a site wants between two requests; 0 if it does not say."""
        rules = self._rules(target, FetchDeadline(self.limits.seconds))
        return float((rules and rules.crawl_delay(AGENT)) or 0.0)

    def _get(self, target: Target, into: IO[bytes], deadline: FetchDeadline, *, robots: bool) -> Fetched:
        for _ in range(self.limits.redirects + 1):
            if robots:
                self._check_robots(target, deadline)
            addresses = addresses_of(target, self._resolver, self._allow)
            with exchange(target, addresses, AGENT, deadline, self._context) as answer:
                location = answer.headers.get("location")
                if answer.status in _REDIRECTS and location:
                    # HTTP calls headers Latin-1, but in practice bytes beyond ASCII are UTF-8.
                    reference = location.encode("latin-1").decode("utf-8", "replace")
                    target = read_url(reference, self.limits.ports, target.url)
                    continue
                return self._read(target, answer, into, robots)
        raise FetchRefused("redirects", "The site redirects too often. Use the address of the page itself.")

    def _read(self, target: Target, answer: WebResponse, into: IO[bytes], document: bool) -> Fetched:
        if not 200 <= answer.status < 300:
            message = f"The site answered with status {answer.status}. Check the URL, or try again later."
            raise FetchRefused("status", message, reason=str(answer.status))
        content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        most = self.limits.bytes if document else _ROBOTS_BYTES
        if document and not _READABLE.fullmatch(content_type):
            message = "There is no document at this address, but a file of another kind."
            raise FetchRefused("content_type", message, reason=content_type[:80])
        content_length = answer.headers.get("content-length", "")
        size = int(content_length) if content_length.isdecimal() and len(content_length) < 20 and document else 0
        if size <= most:
            size = 0
            for part in answer.body:
                size += len(part)
                if size > most:
                    break
                into.write(part)
            else:
                return Fetched(target.url, content_type, size)
        if not document:
            return Fetched(target.url, content_type, most)
        raise FetchRefused("too_large", f"The document is larger than {most // 2**20} MB.")

    def _check_robots(self, target: Target, deadline: FetchDeadline) -> None:
        rules = self._rules(target, deadline)
        if rules is None or not rules.can_fetch(target.url, AGENT):
            raise FetchRefused("robots", "The site does not allow programs to fetch this page (robots.txt).")

    def _rules(self, target: Target, deadline: FetchDeadline) -> Protego | None:
        """Return the site's rules; ``None`` if the site cannot deliver them.

        RFC 9309 (2.3.1.4) says to treat that as if everything were forbidden.
        """
        cached = self._robots.get(target.origin)
        if cached and self._clock() < cached[0]:
            return cached[1]
        rules = self._fetch_rules(target, deadline)
        self._robots[target.origin] = (
            self._clock() + (_ROBOTS_SECONDS if rules is not None else _ROBOTS_RETRY_SECONDS),
            rules,
        )
        while len(self._robots) > _ROBOTS_KEPT:
            self._robots.popitem(last=False)
        return rules

    def _fetch_rules(self, target: Target, deadline: FetchDeadline) -> Protego | None:
        from protego import Protego

        file = BytesIO()
        try:
            self._get(self.target("/robots.txt", target.url), file, deadline, robots=False)
        except FetchRefused as refused:
            if refused.problem == "status":
                return Protego.parse("") if (refused.reason or "").startswith("4") else None
            if refused.problem == "redirects":
                return Protego.parse("")
            raise  # the page itself is unreachable, too
        return Protego.parse(file.getvalue().decode("utf-8", "replace"))
