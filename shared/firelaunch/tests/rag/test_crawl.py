"""A crawl stays on its site and within its limits, visits each page once, and goes on past pages that fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from firelaunch.errors import FetchRefused
from firelaunch.rag.web.crawl import CrawlLimits, Skipped, WebPage, crawl
from firelaunch.rag.web.fetch import Fetcher, FetchLimits
from firelaunch.testing.sites import Site, SiteReply


def page(*links: str, more: str = "") -> SiteReply:
    return SiteReply((more + "".join(f'<a href="{link}">to {link}</a>' for link in links)).encode())


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def run(site: Site, start: str = "/", **limits: float) -> list[WebPage | Skipped]:
    fetcher = Fetcher(FetchLimits(ports=frozenset({site.port})), allow=lambda address: str(address) == site.host)
    return list(crawl(site.url + start, fetcher, CrawlLimits(**limits), pause=lambda _: None))  # type: ignore[arg-type]


def pages(found: list[WebPage | Skipped]) -> list[tuple[str, int]]:
    return [(each.fetched.url.rpartition("/")[2], each.depth) for each in found if isinstance(each, WebPage)]


def test_pages_come_once_each_and_nearest_first(site: Site) -> None:
    site.pages |= {
        "/": page("/a", "b", "/", "#top", "/a#part", f"{site.url}/b"),
        "/a": page("/c", "/"),
        "/b": page("c", "/a"),
        "/c": page("/d"),
        "/d": page(),
    }
    found = run(site, depth=2)
    assert pages(found) == [("", 0), ("a", 1), ("b", 1), ("c", 2)]
    assert site.paths == ["/", "/a", "/b", "/c"]


def test_a_page_is_handed_over_as_an_open_file(site: Site) -> None:
    site.pages["/"] = SiteReply(b"<p>hello")
    fetcher = Fetcher(FetchLimits(ports=frozenset({site.port})), allow=lambda _: True)
    for each in crawl(site.url, fetcher):
        assert isinstance(each, WebPage)
        assert each.file.read() == b"<p>hello"


def test_the_number_of_pages_is_limited_on_a_site_without_end(site: Site) -> None:
    site.pages |= {f"/{n}": page(f"/{n + 1}", f"/{n + 2}") for n in range(100)}
    assert len(run(site, "/0", depth=1_000, pages=7)) == 7
    assert len(site.paths) == 7


def test_depth_zero_is_one_page(site: Site) -> None:
    site.pages |= {"/": page("/a"), "/a": page()}
    assert len(run(site, depth=0)) == 1
    assert site.paths == ["/"]


def test_other_sites_are_not_visited(site: Site) -> None:
    with Site({"/": page()}, host="127.0.0.2") as other:
        away = [other.url, "mailto:a@b.test", "javascript:x()", "http://[", "ftp://a.test/", "https://127.0.0.1/", ""]
        site.pages |= {"/": page(*away, "/gone", "/moved"), "/moved": SiteReply.redirect(other.url)}
        found = run(site)
    assert [type(each) for each in found] == [WebPage, Skipped, Skipped]
    assert other.requests == []


def test_a_redirect_to_another_site_on_the_way_is_skipped_even_where_it_is_allowed(site: Site) -> None:
    with Site({"/": SiteReply(b"other")}) as other:
        site.pages |= {"/": page("/moved"), "/moved": SiteReply.redirect(other.url)}
        fetcher = Fetcher(FetchLimits(ports=frozenset({site.port, other.port})), allow=lambda _: True)
        found = list(crawl(site.url, fetcher, pause=lambda _: None))
    assert isinstance(found[-1], Skipped)
    assert "another site" in found[-1].reason


def test_a_page_reached_by_two_addresses_comes_once(site: Site) -> None:
    site.pages |= {"/": page("/a", "/old"), "/a": page(), "/old": SiteReply.redirect("/a")}
    assert len(run(site)) == 2


def test_a_page_that_fails_is_told_and_the_crawl_goes_on(site: Site) -> None:
    video = SiteReply(b"x", headers={"Content-Type": "video/mp4"})
    robots = SiteReply(b"User-agent: *\nDisallow: /no\n")
    site.pages |= {
        "/robots.txt": robots,
        "/": page("/404", "/v", "/no", "/a"),
        "/v": video,
        "/a": page(),
        "/no": page(),
    }
    found = run(site)
    assert [each.url.rpartition("/")[2] for each in found if isinstance(each, Skipped)] == ["404", "v", "no"]
    assert isinstance(found[-1], WebPage)
    assert "/no" not in site.paths


def test_a_first_page_that_cannot_be_had_is_an_error(site: Site) -> None:
    with pytest.raises(FetchRefused, match="404"):
        run(site)


def test_links_follow_the_base_and_the_refusals_of_the_page(site: Site) -> None:
    site.pages |= {
        "/": SiteReply(
            b'<base href="/b/"><a href="x">x</a><a rel="nofollow noopener" href="y">y</a><script><a href="/z"></script>'
        ),
        "/b/x": page(),
    }
    assert len(run(site)) == 2
    assert site.paths == ["/", "/b/x"]


def test_what_is_no_page_has_no_links(site: Site) -> None:
    text = SiteReply(b'<a href="/b">b</a>', headers={"Content-Type": "text/plain"})
    site.pages |= {"/": page("/a"), "/a": text, "/b": page()}
    run(site)
    assert site.paths == ["/", "/a"]


def test_the_pace_is_what_the_site_asks_for_within_reason(site: Site) -> None:
    pauses: list[float] = []
    seen: list[float] = []
    site.pages |= {
        "/robots.txt": SiteReply(b"User-agent: *\nCrawl-delay: 3\n"),
        "/": page("/a", "/b"),
        "/a": page(),
        "/b": page(),
    }
    for most in (10.0, 2.0):
        fetcher = Fetcher(FetchLimits(ports=frozenset({site.port})), allow=lambda _: True)
        limits = CrawlLimits(most_delay=most)
        list(crawl(site.url, fetcher, limits, progress=seen.append, pause=pauses.append))
    assert pauses == [3.0, 3.0, 2.0, 2.0]
    assert seen[2] == 1.0
