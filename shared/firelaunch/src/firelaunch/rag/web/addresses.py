"""Decide which URLs may be fetched, and which addresses may be connected to."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from ...errors import FetchRefused

__all__ = ["Address", "Allow", "Resolve", "Target", "addresses_of", "is_public", "read_url", "resolve"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Allow = Callable[[Address], bool]
Resolve = Callable[[str, int], list[str]]
"""Resolves host and port to addresses as text, like the system's resolver."""

_MAX_URL = 2_048
_MAX_ADDRESSES = 8
_DEFAULT_PORTS = {"http": 80, "https": 443}

# ruff: noqa: SIM905 - names in a row read better than a list of a line each
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 224.0.0.0/3 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
    ).split()
)
"""Networks that are not public, of IPv4 and of the IPv6 addresses in use.

They are private, shared, loopback, link-local (including cloud metadata), documentation, benchmark, multicast and
reserved networks, and those whose addresses contain an IPv4 address
(https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry; read in 2026).
"""

_IN_USE = ipaddress.ip_network("2000::/3")
"""The only allocated IPv6 addresses (https://www.iana.org/assignments/ipv6-address-space).

Loopback, link-local, unique local, IPv4-mapped and NAT64 addresses are outside.
"""


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public Internet, so that a server may be made to connect to it."""
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address not in _IN_USE):
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL that is harmless, as far as that can be decided without resolving its host.

    Args:
        url: the normalized URL: no fragment, the host in lower-case ASCII.
        scheme: http or https.
        host: a name, or an address without brackets.
        port: the given port, or the scheme's default.
        path: path and query, as they are sent.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port, which define a site."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


_CONTROLS = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029]")
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_KEPT = re.compile(r"%[0-9A-Fa-f]{2}|[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]")


def read_url(url: str, ports: frozenset[int], base: str | None = None) -> Target:
    """Return the target of a URL, or of a reference relative to ``base``.

    Raises:
        FetchRefused: the URL is not http or https, has a user name, a port that is not in ``ports``, or a host that is
            not a valid name or address (numbers other than four in dots, zone ids), or is not valid at all.
    """
    url = url.strip()
    if not url or len(url) > _MAX_URL or _CONTROLS.search(url.replace(" ", "%20")):
        raise FetchRefused("invalid_url", "This is not a valid URL. Copy it from the browser's address bar.")
    try:
        parts = urlsplit(urljoin(base, url) if base else url)
        port = parts.port
    except ValueError as error:
        raise FetchRefused("invalid_url", "This is not a valid URL.", reason=str(error)) from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise FetchRefused("scheme", "Only http:// and https:// addresses can be fetched.")
    if "@" in parts.netloc:
        raise FetchRefused("credentials", "A URL with a user name or password in it cannot be fetched. Take them out.")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in ports:
        raise FetchRefused("port", f"Only ports {', '.join(map(str, sorted(ports)))} can be fetched from.")
    target = Target(
        "", parts.scheme, _host(parts.hostname or "", "[" in parts.netloc), port, _path(parts.path, parts.query)
    )
    return Target(f"{target.scheme}://{target.authority}{target.path}", *target.origin, target.path)


def _host(host: str, bracketed: bool) -> str:
    try:
        if bracketed:
            address = ipaddress.IPv6Address(host)
            if address.scope_id is None:
                return str(address)
        # IDNA's nameprep also turns full-width digits and dots into ASCII ones.
        name = host.encode("idna").decode("ascii").lower().rstrip(".")
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(name))  # accepts only four decimal numbers without leading zeros
        if _NAME.fullmatch(name):
            return name
    except (ValueError, UnicodeError):
        pass
    raise FetchRefused("invalid_host", "The URL's host is not a valid name or address.", reason=host[:80])


def _path(path: str, query: str) -> str:
    path_and_query = (path or "/") + (f"?{query}" if query else "")
    # Percent-encode characters that a request line may not hold; keep what is encoded already.
    return "".join(
        part if _KEPT.fullmatch(part) else "".join(f"%{byte:02X}" for byte in part.encode("utf-8", "replace"))
        for part in re.findall(r"%[0-9A-Fa-f]{2}|.", path_and_query, re.DOTALL)
    )


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver, whose own settings limit the time.

    Raises:
        OSError: the name is not known.
    """
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def addresses_of(target: Target, resolver: Resolve, allow: Allow) -> list[Address]:
    """Return the addresses of a target that may be connected to. Connect to these without resolving the name again.

    Raises:
        FetchRefused: the name is not known, or one of its addresses is not allowed.
    """
    try:
        literal = _NUMBER.fullmatch(target.host.rpartition(".")[2]) or ":" in target.host
        texts = [target.host] if literal else resolver(target.host, target.port)
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)][:_MAX_ADDRESSES]
    except (OSError, ValueError, UnicodeError) as error:
        raise FetchRefused("unknown_host", "There is no such host. Check the URL.", reason=str(error)) from error
    if not addresses:
        raise FetchRefused("unknown_host", "There is no such host. Check the URL.")
    # One bad address is enough: an attacker's name may also have a public one.
    for address in addresses:
        if not allow(address):
            reason = f"{target.host} is {address}"
            raise FetchRefused("private_address", "This address is not on the public Internet.", reason=reason)
    return addresses
