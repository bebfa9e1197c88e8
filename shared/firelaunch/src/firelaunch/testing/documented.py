"""Check an app's answers against its OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from flask import Response, request
from jsonschema import Draft202012Validator

from ..server.app import App

__all__ = ["Documented", "watch"]

_UNDOCUMENTED = {"HEAD", "OPTIONS"}
"""Methods that Flask answers by itself."""


class Documented:
    """A checker of answers against an OpenAPI document.

    Args:
        document: the content of ``/openapi.json``.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._validator = cache(self._make_validator)

    def problem(self, method: str, path: str, status: int, media_type: str, body: bytes) -> str | None:
        """Return how an answer differs from the document, or None.

        Args:
            path: the path as the document writes it: ``/v1/chats/{id}``.
            media_type: the answer's media type, without parameters.
        """
        here = f"{method} {path} {status}"
        operation = self._document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            return f"{here}: the route is not in the document"
        key = str(status) if str(status) in operation["responses"] else f"{status // 100}XX"
        documented = operation["responses"].get(key)
        if documented is None:
            return f"{here}: the status is not in the document: {body[:200]!r}"
        content = documented.get("content")
        if content is None:
            return f"{here}: the document knows of no body: {body[:200]!r}" if body else None
        if media_type not in content:
            return f"{here}: {media_type!r} is not in the document"
        if media_type != "application/json":
            return None
        faults = self._validator(path, method.lower(), key).iter_errors(json.loads(body))
        return next((f"{here}: {fault.json_path}: {fault.message}" for fault in faults), None)

    def _make_validator(self, path: str, method: str, status: str) -> Draft202012Validator:
        documented = self._document["paths"][path][method]["responses"][status]["content"]["application/json"]
        return Draft202012Validator({**documented["schema"], "components": self._document["components"]})


def watch(app: App, documented: Documented | None = None) -> list[str]:
    """Check each answer of ``app`` from now on, and return the list to which problems are added.

    Args:
        documented: the checker; one of the app's own document if left out. Call this before the app's first request.
    """
    problems: list[str] = []
    checker = cache(lambda: documented or Documented(app.extensions["firelaunch"].document()))

    @app.after_request
    def check(response: Response) -> Response:
        if request.url_rule is None or request.method in _UNDOCUMENTED:
            return response
        path = re.sub(r"<(?:[^:>]*:)?", "{", str(request.url_rule)).replace(">", "}")
        body = b"" if response.mimetype == "text/event-stream" else response.get_data()
        problem = checker().problem(request.method, path, response.status_code, response.mimetype or "", body)
        if problem is not None:
            problems.append(problem)
        return response

    return problems
