"""Serve the page at ``/ops`` that shows an app's admins what it costs, how fast it is and what fails.

The page is a public shell: whoever asks gets the same files, and they hold no data. The page's scripts ask the routes
under ``/v1/ops`` for the data, with the token of an admin.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from flask import Response
from pydantic import BaseModel, Field

from ..errors import NotFound
from .base import services
from .page_files import asset_response, page_response, text_content
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api"]

_ASSETS: Final = {
    **{name: name for name in ("base.css", "api.js", "dom.js")},
    **{name: f"ops/{name}" for name in ("ops.css", "ops.js", "charts.js", "figures.js", "requests.js", "people.js")},
    **{name: f"vendor/{name}" for name in ("uPlot.js", "uPlot.css")},
}
"""Each file's path in ``pages/``."""


class OpsAsset(BaseModel):
    """A file of the page."""

    name: str = Field(description=f"One of {', '.join(_ASSETS)}.")


api = Routes("ops_page", "ops", prefix=None, public=True)


@api.get(
    "/ops",
    responses={200: text_content("text/html"), **errors_of_anyone()},
    operation_id="getOpsPage",
    summary="The page for the app's admins",
    description="A shell without data. Its scripts ask for the data with an admin's token.",
)
def page() -> Response:
    """The page for the app's admins."""
    settings = services().settings
    development = services().dev_identity is not None
    origins = [_origin(settings.membership.url)] if settings.membership.url else []
    return page_response("ops/ops.html", {"DEVELOPMENT": "true" if development else "false"}, origins)


@api.get(
    "/ops/<name>",
    responses={200: text_content("text/css", "text/javascript"), **errors_of_anyone(NotFound)},
    operation_id="getOpsAsset",
    summary="Serve a file of the page for the app's admins",
)
def asset(path: OpsAsset) -> Response:
    """Serve a file of the page for the app's admins."""
    return asset_response(path.name, _ASSETS)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
