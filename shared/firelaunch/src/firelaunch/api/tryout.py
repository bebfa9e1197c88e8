"""Serve the page at ``/`` that lets you talk to an app from a browser. Like dev tokens, it exists in development only.

The page's files are in ``pages/``: HTML, CSS and JavaScript as the browser gets them, without a build step. Text of a
model or a document may be hostile, so there are three defenses: the page's scripts make DOM nodes and never HTML, the
browser refuses HTML from them (Trusted Types), and the content security policy allows these files only.
"""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path

from flask import Response
from pydantic import BaseModel, Field

from ..errors import NotFound
from .base import services
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api"]

_PAGES = Path(__file__).parent / "pages"
_ASSETS = {
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "api.js": ("api.js", "text/javascript"),
    "markdown.js": ("markdown.js", "text/javascript"),
    "markdown-it.js": ("vendor/markdown-it.js", "text/javascript"),
}
"""Each file's path in ``pages/``, and its type."""

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",  # the empty icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


class Asset(BaseModel):
    """A file of the page."""

    name: str = Field(description=f"One of {', '.join(_ASSETS)}.")


def _text(*mimetypes: str) -> dict[str, object]:
    return {"content": {mimetype: {"schema": {"type": "string"}} for mimetype in mimetypes}}


api = Routes("tryout", "development", prefix=None, public=True)


@api.get(
    "/",
    responses={200: _text("text/html"), **errors_of_anyone()},
    operation_id="getTryoutPage",
    summary="Talk to the app from a browser, on a laptop",
)
def page() -> Response:
    """Talk to the app from a browser, on a laptop."""
    text = _content("page.html").decode().replace("APP_NAME", escape(services().settings.app.name))
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return Response(text, mimetype="text/html", headers=headers)


@api.get(
    "/tryout/<name>",
    responses={200: _text("text/css", "text/javascript"), **errors_of_anyone(NotFound)},
    operation_id="getTryoutAsset",
    summary="What the page to talk to the app consists of",
)
def asset(path: Asset) -> Response:
    """What the page to talk to the app consists of."""
    if path.name not in _ASSETS:
        raise NotFound
    file, mimetype = _ASSETS[path.name]
    return Response(_content(file), mimetype=mimetype)


@cache
def _content(file: str) -> bytes:
    return (_PAGES / file).read_bytes()
