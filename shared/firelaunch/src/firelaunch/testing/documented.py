"""Check an app's answers against its OpenAPI document."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
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
        document: the content of ``/openapi.json?admins=true``.
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
        if status == 304:
            return None
        # HTTP itself says that a request with a Range may be answered with a part of the 200.
        status = 200 if status == 206 else status
        key = str(status) if str(status) in operation["responses"] else f"{status // 100}XX"
        documented = operation["responses"].get(key)
        if documented is None:
            mend = " (a route names its errors by errors=[...] or calls_model=True)" if status >= 400 else ""
            return f"{here}: the status is not in the document{mend}: {body[:200]!r}"
        content = documented.get("content")
        if content is None:
            return f"{here}: the document knows of no body: {body[:200]!r}" if body else None
        if media_type not in content:
            return f"{here}: {media_type!r} is not in the document"
        if media_type != "application/json":
            return None
        answer = json.loads(body)
        faults = self._validator(path, method.lower(), key).iter_errors(answer)
        fault = next((f"{here}: {fault.json_path}: {fault.message}" for fault in faults), None)
        return fault or _undocumented_code(here, answer, content[media_type].get("examples", {}), status)

    def _make_validator(self, path: str, method: str, status: str) -> Draft202012Validator:
        documented = self._document["paths"][path][method]["responses"][status]["content"]["application/json"]
        return Draft202012Validator({**documented["schema"], "components": self._document["components"]})


def _undocumented_code(here: str, answer: Any, examples: Mapping[str, Any], status: int) -> str | None:
    """Return a problem if an error's code is in no example. Those of JSON-RPC are numbers, and the protocol's own."""
    code = answer["error"]["code"] if status >= 400 else 0
    known = [example["value"]["error"]["code"] for example in examples.values()] if isinstance(code, str) else [code]
    return None if code in known else f"{here}: the error code is not in the document: {code!r}"


def watch(app: App, documented: Documented | None = None) -> list[str]:
    """Check each answer of ``app`` from now on, and return the list to which problems are added.

    Args:
        documented: the checker; one of the app's own document if left out. Call this before the app's first request.
    """
    problems: list[str] = []
    checker = cache(lambda: documented or Documented(app.extensions["firelaunch"].document(True).content))

    @app.after_request
    def check(response: Response) -> Response:
        if request.url_rule is None or request.method in _UNDOCUMENTED:
            return response
        path = re.sub(r"<(?:[^:>]*:)?", "{", str(request.url_rule)).replace(">", "}")
        unread = response.mimetype == "text/event-stream" or response.status_code == HTTPStatus.NOT_MODIFIED
        body = b"" if unread else response.get_data()
        body = gzip.decompress(body) if response.content_encoding == "gzip" else body
        problem = checker().problem(request.method, path, response.status_code, response.mimetype or "", body)
        if problem is not None:
            problems.append(problem)
        return response

    return problems
