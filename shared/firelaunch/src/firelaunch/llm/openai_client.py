"""Make the openai package's client for OpenAI or a server like it. Models themselves are called without the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ..settings.openai_server import AUTHORIZATION, OpenAIServer

if TYPE_CHECKING:
    import openai

__all__ = ["key_headers", "openai_client"]


def openai_client(api_key: str, server: OpenAIServer, **options: Any) -> openai.OpenAI:
    """Return a client of ``server``; ``options`` are the package's own. Each request needs :func:`key_headers`, too."""
    import openai

    # The package would append its paths to a query string.
    base_url, _, query = (server.base_url or "").partition("?")
    return openai.OpenAI(api_key=api_key, base_url=base_url or None, default_query=dict(parse_qsl(query)), **options)


def key_headers(api_key: str, server: OpenAIServer) -> dict[str, Any]:
    """Return a request's ``extra_headers``, which put the key where ``server`` expects it and nowhere else."""
    import openai

    if server.key_header.lower() == AUTHORIZATION.lower():
        return {}
    return {AUTHORIZATION: openai.Omit(), server.key_header: api_key}
