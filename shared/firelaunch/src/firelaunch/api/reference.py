"""Serve the API's description: ``/openapi.json`` for tools, and Swagger UI at ``/docs`` for people.

:mod:`.document` makes it.

Swagger UI's files come with the package flask-openapi3-swagger. The package is never imported. Its folder is looked up
when a client first asks for a file, so it does not slow the start.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flask import Response, request
from pydantic import BaseModel, Field

from ..errors import NotFound
from .base import QueryModel, backend
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api"]

_FILES = {
    "swagger-ui.css": ("css", "text/css"),
    "swagger-ui-bundle.js": ("js", "text/javascript"),
    "start.js": (None, "text/javascript"),
}
"""Each file's folder in the package (None for a file that this module holds), and its type."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json?admins=true", dom_id: "#page", deepLinking: true, tryItOutEnabled: true,
  displayRequestDuration: true, validatorUrl: null,
});
"""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # Swagger UI's icons are data: URLs of its style sheet
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_KEPT_SECONDS = 3600


class DocumentQuery(QueryModel):
    """The parts of the document."""

    admins: bool = Field(default=False, description="Describe the routes of admins, `/v1/ops`, too.")


class Asset(BaseModel):
    """A file of the page."""

    file: str = Field(description=f"One of {', '.join(_FILES)}.")


def _text(*mimetypes: str) -> dict[str, Any]:
    return {"content": {mimetype: {"schema": {"type": "string"}} for mimetype in mimetypes}}


api = Routes("reference", "reference", prefix=None, public=True)


_DOCUMENT: dict[str, Any] = {"content": {"application/json": {"schema": {}}}}


@api.get(
    "/openapi.json",
    responses={200: _DOCUMENT, 304: None, **errors_of_anyone()},
    summary="This document",
    operation_id="getOpenApi",
)
def openapi_json(query: DocumentQuery) -> Response:
    """This document."""
    document = backend().document(query.admins)
    compressed = request.accept_encodings["gzip"] > 0
    response = Response(document.compressed if compressed else document.plain, mimetype="application/json")
    if compressed:
        response.content_encoding = "gzip"
    # Weak, as both forms have one tag: a client may keep one and be asked about the other.
    response.set_etag(document.tag, weak=True)
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = "no-cache"  # kept, and asked about each time
    response.make_conditional(request)
    return response


@api.get(
    "/docs",
    responses={200: _text("text/html"), 308: None, **errors_of_anyone()},
    summary="This document, for people",
    operation_id="getDocsPage",
)
def page() -> Response:
    """This document, for people."""
    if request.path.endswith("/"):
        return Response(status=308, headers={"Location": "../docs"})  # the page's links are relative
    return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


@api.get(
    "/docs/<file>",
    responses={200: _text("text/css", "text/javascript"), **errors_of_anyone(NotFound)},
    summary="What the page for people consists of",
    operation_id="getDocsAsset",
)
def asset(path: Asset) -> Response:
    """What the page for people consists of."""
    if path.file not in _FILES:
        raise NotFound
    folder, mimetype = _FILES[path.file]
    content = (_swagger() / folder / path.file).read_bytes() if folder else _START
    return Response(content, mimetype=mimetype, headers={"Cache-Control": f"public, max-age={_KEPT_SECONDS}"})


@cache
def _swagger() -> Path:
    package = find_spec("flask_openapi3_swagger")
    if package is None or package.origin is None:
        raise NotFound(reason="flask-openapi3-swagger is not installed")
    return Path(package.origin).parent / "templates" / "swagger"
