"""Calls of OpenAI's API, or of a server like it, that are answered with one JSON document: embeddings and moderation.

They go over the connections that models are called over (:mod:`.wire.http`), without the openai package.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..settings.openai_server import OPENAI_URL, OpenAIServer
from .deadline import Deadline
from .failures import of_response
from .wire.http import Transport
from .wire.json_object import json_object

__all__ = ["OpenAICalls"]

_MOST = 64_000_000
"""The most bytes of an answer. 256 vectors of 4,096 numbers are 23 MB as text."""


class OpenAICalls:
    """The calls of one server with one key. Nothing connects before the first; safe for many threads."""

    def __init__(self, api_key: str, server: OpenAIServer) -> None:
        self._server = server
        self._headers = server.headers(api_key) | {"Accept": "application/json", "Accept-Encoding": "identity"}

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self._server.base_url or OPENAI_URL)

    def post(self, path: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to one request, which has ``seconds`` in all. Nothing is tried again.

        Raises:
            ModelUnavailable, ModelTimeout: another try may help.
            ModelRefused, ModelError: it would not.
        """
        deadline = Deadline(time.monotonic() + seconds, first_token=seconds, between=seconds)
        response = self._transport.post(path, self._headers, json.dumps(body).encode(), deadline)
        try:
            if not 200 <= response.status < 300:
                raise of_response(response.status, response.headers, response.text())
            return json_object(response.body(_MOST))
        finally:
            response.close()
