"""Which server answers in the place of OpenAI's own: its base URL, checked at the start, and where its key goes."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["AUTHORIZATION", "OPENAI", "OPENAI_URL", "OpenAIServer", "base_url_problem", "is_loopback"]

OPENAI_URL = "https://api.openai.com/v1"
"""The base URL of OpenAI's own API."""

AUTHORIZATION = "Authorization"
"""The header of OpenAI's keys, which go into it as a bearer's; any other header holds the key alone."""

_OPERATIONS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/models")
"""What documentation often shows at the end of an address, though it is no part of the base URL."""


class OpenAIServer(NamedTuple):
    """A server with OpenAI's API.

    Attributes:
        base_url: None for OpenAI's own.
        key_header: the header that the key goes into.
    """

    base_url: str | None = None
    key_header: str = AUTHORIZATION

    def headers(self, key: str) -> dict[str, str]:
        """Return a request's headers, with ``key`` where this server expects it and nowhere else."""
        is_bearer = self.key_header.lower() == AUTHORIZATION.lower()
        value = f"Bearer {key}" if is_bearer else key
        return {self.key_header: value, "Content-Type": "application/json", "User-Agent": "firelaunch"}


OPENAI = OpenAIServer()
"""OpenAI's own."""


def is_loopback(url: str | None) -> bool:
    """Return whether ``url`` leads to this machine."""
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def base_url_problem(url: str, *, development: bool) -> str | None:
    """Return what is wrong with a base URL, and the mend; None if nothing is.

    It never quotes the URL, which may hold a password.

    Args:
        development: whether keys and texts may go over a network unencrypted.
    """
    if re.search(r"[^!-~]", url):
        return "holds a space, a line break or a character beyond ASCII: take it out"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no address: write it as https://host/v1"
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        return "is no http(s) address: write it as https://host/v1"
    if "@" in parts.netloc:
        return "holds a user or a password: take them out; the key belongs into OPENAI_API_KEY"
    if parts.fragment or url.endswith("#"):
        return "has a part after #: take it out"
    ending = next((ending for ending in _OPERATIONS if parts.path.rstrip("/").endswith(ending)), None)
    if ending is not None:
        return f"ends with {ending}: take that off, since firelaunch adds it"
    if parts.scheme == "http" and not development and not is_loopback(url):
        return "is http:// to another machine: the key and all texts would go there unencrypted; write https://"
    return None
