"""No URL, name, redirect or answer leads a fetch to a private address, out of its limits, or past robots.txt."""

from __future__ import annotations

import datetime
import gzip
import io
import ipaddress
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from firelaunch.errors import FetchRefused
from firelaunch.rag.web.addresses import is_public, read_url
from firelaunch.rag.web.fetch import AGENT, Fetched, Fetcher, FetchLimits
from firelaunch.rag.web.http import _decode
from firelaunch.testing.sites import Site, SiteReply
from hypothesis import given
from hypothesis import strategies as st

HOME = "127.0.0.1"
Make = Callable[..., Fetcher]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site({"/": SiteReply(b"<p>hello")}) as site:
        yield site


def fetcher(
    site: Site, *, allow: tuple[str, ...] = (HOME,), names: dict[str, list[str]] | None = None, **limits: object
) -> Fetcher:
    """Allowed to reach the named addresses and no other; the names it knows are made up."""
    return Fetcher(
        FetchLimits(ports=frozenset({site.port}), **limits),  # type: ignore[arg-type]
        resolver=lambda host, _: (names or {}).get(host, []),
        allow=lambda address: str(address) in allow,
    )


def get(fetch: Fetcher, url: str) -> tuple[Fetched, bytes]:
    into = io.BytesIO()
    return fetch.fetch(url, into), into.getvalue()


def refused(fetch: Fetcher, url: str) -> str:
    with pytest.raises(FetchRefused) as caught:
        get(fetch, url)
    assert caught.value.status == 422
    return caught.value.problem


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.1",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fec0::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_a_private_address_is_not_connected_to_however_it_is_written(site: Site, host: str) -> None:
    """The rule is the real one, the port is that of a server that would answer."""
    fetch = Fetcher(FetchLimits(ports=frozenset({site.port})))
    assert refused(fetch, f"http://{host}:{site.port}/") == "private_address"
    assert site.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "0",
        "127.0.0.1.5",
        "1.2.3.0x4",
        "[fe80::1%25lo]",
        "[fe80::1%lo]",
        "[::1",
        "[127.0.0.1]",
        "a..b",
        "-a.b",
        "a b",
        "a\tb",
        "a%00b",
        "a%2eb",
        "",
        "x" * 64 + ".com",
    ],
)
def test_a_host_that_readers_may_understand_differently_is_refused(site: Site, host: str) -> None:
    fetch = Fetcher(FetchLimits(ports=frozenset({site.port})), resolver=lambda *_: [HOME], allow=lambda _: True)
    assert refused(fetch, f"http://{host}:{site.port}/") in {"invalid_host", "invalid_url"}
    assert site.requests == []


@pytest.mark.parametrize("host", ["１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "ｌｏｃａｌｈｏｓｔ"])  # noqa: RUF001 - look-alikes are what it is about
def test_look_alike_characters_are_read_before_the_check(site: Site, host: str) -> None:
    assert (
        refused(Fetcher(FetchLimits(ports=frozenset({site.port}))), f"http://{host}:{site.port}/") == "private_address"
    )
    assert site.requests == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://a.test/", "scheme"),
        ("gopher://a.test:{port}/_x", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("data:text/plain,x", "scheme"),
        ("//a.test/", "scheme"),
        ("a.test", "scheme"),
        ("http://a.test:22/", "port"),
        ("http://a.test/", "port"),
        ("http://a.test:99999/", "invalid_url"),
        ("http://user@a.test:{port}/", "credentials"),
        ("http://a.test:{port}@b.test/", "credentials"),
        ("http://@a.test:{port}/", "credentials"),
        ("http://a.test:{port}\\@b.test/", "invalid_url"),
        ("http://a.test:{port}/\r\nHost: b", "invalid_url"),
        ("http://a.test:{port}/" + "x" * 3_000, "invalid_url"),
        ("", "invalid_url"),
    ],
)
def test_a_url_that_is_not_plain_http_is_refused(site: Site, url: str, problem: str) -> None:
    fetch = fetcher(site, names={"a.test": [HOME]})
    assert refused(fetch, url.format(port=site.port)) == problem
    assert site.requests == []


def test_a_name_is_fetched_from_its_address_with_its_own_name_in_the_request(site: Site) -> None:
    fetched, body = get(fetcher(site, names={"a.test": [HOME]}), f"http://A.test:{site.port}#part")
    assert (fetched.url, fetched.content_type, fetched.size, body) == (
        f"http://a.test:{site.port}/",
        "text/html",
        8,
        b"<p>hello",
    )
    path, headers = site.requests[-1]
    assert (path, headers["Host"], headers["User-Agent"]) == ("/", f"a.test:{site.port}", AGENT)
    assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}


@pytest.mark.parametrize("answer", [["10.0.0.1"], [HOME, "10.0.0.1"], ["::ffff:10.0.0.1", HOME], ["fe80::1%lo"]])
def test_a_name_with_any_address_that_is_not_allowed_is_refused(site: Site, answer: list[str]) -> None:
    assert refused(fetcher(site, names={"a.test": answer}), f"http://a.test:{site.port}/") == "private_address"
    assert site.requests == []


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to() -> None:
    """A second answer, as of a rebinding name server, leads to a server that must see nothing."""
    with Site({"/": SiteReply(b"good"), "/robots.txt": SiteReply(b"")}) as good, Site(host="127.0.0.2") as bad:
        asked: list[str] = []

        def resolver(host: str, _port: int) -> list[str]:
            asked.append(host)
            return [HOME] if len(asked) <= 2 else [bad.host]

        fetch = Fetcher(FetchLimits(ports=frozenset({good.port})), resolver=resolver, allow=lambda _: True)
        assert get(fetch, f"http://a.test:{good.port}/")[1] == b"good"
        assert len(asked) == 2, "once for robots.txt and once for the page"
        assert bad.requests == []


def test_an_unknown_name_is_said_to_be_unknown(site: Site) -> None:
    assert refused(fetcher(site), f"http://nowhere.test:{site.port}/") == "unknown_host"

    def fails(*_: object) -> list[str]:
        raise OSError("no such name")

    fetch = Fetcher(FetchLimits(ports=frozenset({site.port})), resolver=fails)
    assert refused(fetch, f"http://nowhere.test:{site.port}/") == "unknown_host"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_relative_to_its_page(site: Site, status: int) -> None:
    site.pages["/a/b"] = SiteReply.redirect("../c?x=ü", status)
    site.pages["/c?x=%C3%BC"] = SiteReply(b"there")
    fetched, body = get(fetcher(site), f"{site.url}/a/b")
    assert (fetched.url, body) == (f"{site.url}/c?x=%C3%BC", b"there")


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("http://127.0.0.2:{port}/", "private_address"),
        ("//127.0.0.2:{port}/", "private_address"),
        ("http://inside.test:{port}/", "private_address"),
        ("http://[::ffff:127.0.0.2]:{port}/", "private_address"),
        ("http://2130706434:{port}/", "invalid_host"),
        ("http://127.0.0.1:1/", "port"),
        ("file:///etc/passwd", "scheme"),
        ("http://u:p@127.0.0.1:{port}/", "credentials"),
        ("/", "redirects"),
        ("http://[", "invalid_url"),
    ],
)
def test_each_redirect_is_checked_like_the_first_url(site: Site, location: str, problem: str) -> None:
    site.pages["/"] = SiteReply.redirect(location.format(port=site.port))
    assert refused(fetcher(site, names={"inside.test": ["127.0.0.2"]}), f"{site.url}/") == problem
    assert set(site.paths) == {"/"}


def endless(part: bytes) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        while True:
            yield part

    return parts


def test_what_is_too_large_is_refused_whatever_the_site_says_of_it(site: Site) -> None:
    html = {"Content-Type": "text/html"}
    site.pages |= {
        "/said": SiteReply(b"x", headers={**html, "Content-Length": "100000"}),
        "/unsaid": SiteReply(parts=endless(b"x" * 1_000)),
        "/bomb": SiteReply(gzip.compress(bytes(50_000_000)), headers={**html, "Content-Encoding": "gzip"}),
        "/members": SiteReply(gzip.compress(bytes(900)) * 100, headers={**html, "Content-Encoding": "gzip"}),
    }
    for page in ("/said", "/unsaid", "/bomb", "/members"):
        into = io.BytesIO()
        with pytest.raises(FetchRefused) as caught:
            fetcher(site, bytes=10_000).fetch(site.url + page, into)
        assert caught.value.problem == "too_large"
        assert len(into.getvalue()) <= 10_000, "no more was kept than is allowed"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_packed_answer_is_unpacked(site: Site, pack: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    headers = {"Content-Type": "text/plain", "Content-Encoding": encoding}
    site.pages["/"] = SiteReply(pack(b"word " * 100_000), headers=headers)
    assert get(fetcher(site), f"{site.url}/")[1] == b"word " * 100_000


def test_a_bomb_is_unpacked_in_small_parts() -> None:
    """So that it is stopped before it is in memory."""
    parts = list(_decode(iter([gzip.compress(bytes(5_000_000))]), "gzip"))
    assert sum(map(len, parts)) == 5_000_000
    assert max(map(len, parts)) <= 64 * 1024


@pytest.mark.parametrize("encoding", ["br", "gzip", "gzip, gzip"])
def test_an_answer_that_cannot_be_unpacked_is_refused(site: Site, encoding: str) -> None:
    site.pages["/"] = SiteReply(
        b"not packed at all", headers={"Content-Type": "text/html", "Content-Encoding": encoding}
    )
    assert refused(fetcher(site), f"{site.url}/") == "content_encoding"


def test_an_answer_that_drips_ends_with_the_time(site: Site) -> None:
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(0.05):
            yield b"x"

    site.pages["/"] = SiteReply(parts=drip)
    try:
        assert refused(fetcher(site, seconds=0.5), f"{site.url}/") == "too_slow"
    finally:
        stop.set()


@pytest.mark.parametrize(
    ("kind", "ok"),
    [
        ("text/html; charset=utf-8", True),
        ("TEXT/PLAIN", True),
        ("application/pdf", True),
        ("application/ld+json", True),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", True),
        ("video/mp4", False),
        ("image/png", False),
        ("application/zip", False),
    ],
)
def test_only_types_that_hold_text_are_fetched(site: Site, kind: str, ok: bool) -> None:
    site.pages["/"] = SiteReply(b"x", headers={"Content-Type": kind})
    if ok:
        assert get(fetcher(site), f"{site.url}/")[0].content_type == kind.lower().partition(";")[0]
    else:
        assert refused(fetcher(site), f"{site.url}/") == "content_type"


def test_an_answer_without_a_type_is_left_to_its_content(site: Site) -> None:
    site.pages["/"] = SiteReply(b"x", headers={})
    assert get(fetcher(site), f"{site.url}/")[0].content_type == ""


@pytest.mark.parametrize("status", [404, 403, 500, 503, 304])
def test_an_error_of_the_site_is_told_with_its_status(site: Site, status: int) -> None:
    site.pages["/"] = SiteReply(b"x", status=status)
    with pytest.raises(FetchRefused, match=str(status)) as caught:
        get(fetcher(site), f"{site.url}/")
    assert caught.value.problem == "status"


def test_a_site_that_is_not_there_is_unreachable(site: Site) -> None:
    with Site() as gone:
        url, port = gone.url, gone.port
    fetch = Fetcher(FetchLimits(ports=frozenset({port})), allow=lambda _: True)
    assert refused(fetch, url) == "unreachable"


ROBOTS = b"User-agent: *\nDisallow: /private\nCrawl-delay: 3\n\nUser-agent: other\nDisallow: /\n"


def test_robots_txt_is_honoured_on_the_way_too(site: Site) -> None:
    site.pages |= {
        "/robots.txt": SiteReply(ROBOTS, headers={"Content-Type": "text/plain"}),
        "/private/a": SiteReply(b"secret"),
        "/way": SiteReply.redirect("/private/a"),
    }
    fetch = fetcher(site)
    assert get(fetch, f"{site.url}/")[1] == b"<p>hello"
    assert refused(fetch, f"{site.url}/private/a") == "robots"
    assert refused(fetch, f"{site.url}/way") == "robots"
    assert "/private/a" not in site.paths
    assert [path for path, _ in site.requests].count("/robots.txt") == 1
    assert fetch.crawl_delay(fetch.target(site.url)) == 3.0


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (401, True), (500, False), (503, False)])
def test_a_missing_robots_txt_allows_and_a_broken_one_does_not(site: Site, status: int, allowed: bool) -> None:
    """RFC 9309, sections 2.3.1.3 and 2.3.1.4."""
    site.pages["/robots.txt"] = SiteReply(b"x", status=status)
    if allowed:
        assert get(fetcher(site), f"{site.url}/")[1] == b"<p>hello"
    else:
        assert refused(fetcher(site), f"{site.url}/") == "robots"


def test_robots_txt_leads_to_no_private_address_and_is_read_to_its_limit(site: Site) -> None:
    site.pages["/robots.txt"] = SiteReply.redirect(f"http://127.0.0.2:{site.port}/")
    assert refused(fetcher(site), f"{site.url}/") == "private_address"
    site.pages["/robots.txt"] = SiteReply(parts=endless(b"User-agent: *\nDisallow: /private\n" * 1_000))
    assert get(fetcher(site), f"{site.url}/")[1] == b"<p>hello"


def test_robots_txt_is_asked_for_again_after_an_hour(site: Site) -> None:
    now = [0.0]
    limits = FetchLimits(ports=frozenset({site.port}))
    fetch = Fetcher(limits, allow=lambda _: True, clock=lambda: now[0])
    get(fetch, f"{site.url}/")
    site.pages["/robots.txt"] = SiteReply(b"User-agent: *\nDisallow: /\n")
    get(fetch, f"{site.url}/")
    now[0] = 3_601
    assert refused(fetch, f"{site.url}/") == "robots"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for a.test, and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "a.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


def test_a_certificate_must_be_valid_for_the_name_and_not_for_the_address(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with Site({"/": SiteReply(b"safe")}, context=serving) as site:
        limits = FetchLimits(ports=frozenset({site.port}))

        def fetch(context: ssl.SSLContext | None) -> Fetcher:
            return Fetcher(limits, resolver=lambda *_: [HOME], allow=lambda _: True, context=context)

        assert get(fetch(trusting), f"https://a.test:{site.port}/")[1] == b"safe"
        assert refused(fetch(trusting), f"https://b.test:{site.port}/") == "unreachable"
        assert refused(fetch(trusting), f"https://127.0.0.1:{site.port}/") == "unreachable"
        assert refused(fetch(None), f"https://a.test:{site.port}/") == "unreachable"


@given(st.ip_addresses())
def test_no_special_address_is_taken_for_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The standard library's own list is a second opinion: ours allows nothing that it does not."""
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast


def test_public_addresses_are_public() -> None:
    for text in ("8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "223.255.255.254"):
        assert is_public(ipaddress.ip_address(text)), text


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://a.test/", "http://a.test:", "//"]))
def test_any_text_is_a_url_or_refused(text: str, before: str) -> None:
    try:
        target = read_url(before + text, frozenset({80, 443}))
    except FetchRefused:
        return
    assert target.scheme in {"http", "https"}
    assert target.port in {80, 443}
    assert target.url.isascii()
    assert read_url(target.url, frozenset({80, 443})) == target


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://a.test/x/a%20b.csv?c", "a b.csv"), ("http://a.test/", "page"), ("http://a.test/..%2F..%2Fetc", "etc")],
)
def test_the_name_of_what_was_fetched_is_the_end_of_its_path(url: str, name: str) -> None:
    assert Fetched(url, "", 0).name == name
