"""Check the origins of web pages: one that no browser ever sends would allow nothing, and silently."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

__all__ = ["browser_origin"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def browser_origin(value: str) -> str:
    """Return ``value`` if it is "*", for all pages, or an origin as browsers write it into the header Origin.

    That is a scheme, a host and, unless it is the scheme's own, a port
    (https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin). Apps send origins with
    schemes of their own, as Capacitor's "capacitor://localhost".

    Raises:
        ValueError: no browser sends it. The message has the origin that may be meant, where that can be told.
    """
    if value == "*":
        return value
    if "*" in value:
        raise ValueError(f"{value!r} matches no page, as patterns are not understood: name each origin")
    if value == "null":
        raise ValueError("'null' is what sandboxed pages of anybody send: name the origins of your pages")
    meant = _as_browsers_write(value)
    if meant is None:
        raise ValueError(f"{value!r} is no origin: write a scheme and a host, as in https://app.example.com")
    if meant != value:
        raise ValueError(f"{value!r} matches no page, as browsers send it in another form: write {meant!r}")
    return value


def _as_browsers_write(value: str) -> str | None:
    """Return the origin of a URL, or None if it has none."""
    try:
        url = urlsplit(value.strip() if "://" in value else f"https://{value.strip()}")
        port = url.port
        host = _host(url)
    except ValueError:
        return None
    if host is None or not _SCHEME.fullmatch(url.scheme):
        return None
    shown_port = "" if port is None or port == _DEFAULT_PORTS.get(url.scheme) else f":{port}"
    return f"{url.scheme}://{host}{shown_port}"


def _host(url: SplitResult) -> str | None:
    name = url.hostname or ""
    if ":" in name:
        return f"[{ipaddress.IPv6Address(name).compressed}]"
    if not name.isascii():
        name = name.encode("idna").decode()
    valid = all(_LABEL.fullmatch(label) for label in name.removesuffix(".").split("."))
    return name if valid and len(name) <= 253 else None
