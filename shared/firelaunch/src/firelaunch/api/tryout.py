"""Serve the page at ``/`` that lets you talk to an app from a browser. Like dev tokens, it exists in development only.

Where the app's web client was built, :mod:`.web_client` has the client's page in its place.

:mod:`.page_files` says how pages are kept from running what a model or a document says.
"""

from __future__ import annotations

from typing import Final

from flask import Response
from pydantic import BaseModel, Field

from ..errors import NotFound
from . import web_client
from .base import services
from .page_files import asset_response, page_response, text_content
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api"]

_ASSETS: Final = {
    **{name: name for name in ("base.css", "page.css", "page.js", "api.js", "dom.js", "markdown.js")},
    "markdown-it.js": "vendor/markdown-it.js",
}
"""Each file's path in ``pages/``."""


class Asset(BaseModel):
    """A file of the page."""

    name: str = Field(description=f"One of {', '.join(_ASSETS)}.")


api = Routes("tryout", "development", prefix=None, public=True)


@api.get(
    "/",
    responses={200: text_content("text/html"), **errors_of_anyone()},
    operation_id="getTryoutPage",
    summary="Talk to the app from a browser, on a laptop",
)
def page() -> Response:
    """Talk to the app from a browser, on a laptop."""
    client = services().settings.environment.web
    if client is not None:
        return web_client.page(client)
    return page_response("page.html", {"APP_NAME": services().settings.app.name})


@api.get(
    "/tryout/<name>",
    responses={200: text_content("text/css", "text/javascript"), **errors_of_anyone(NotFound)},
    operation_id="getTryoutAsset",
    summary="What the page to talk to the app consists of",
)
def asset(path: Asset) -> Response:
    """What the page to talk to the app consists of."""
    return asset_response(path.name, _ASSETS)
