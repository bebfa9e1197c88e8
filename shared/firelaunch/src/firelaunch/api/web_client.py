"""Serve the app's web client on a laptop, from the folder that ``firelaunch serve`` built it into. Deployed, Firebase
Hosting does (docs/web.md).
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Any

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from ..errors import NotFound
from ..settings.web_client import ASSETS_CACHING, PAGE_CACHING, client_config, client_headers
from .base import services
from .page_files import text_content
from .refusals import errors_of_anyone
from .routes import Routes

__all__ = ["api", "page"]

_SERVED = re.compile(r"[\w-][\w.-]*\.(css|ico|js|map|png|svg|txt|webmanifest|woff2)")


class WebFile(BaseModel):
    """A file of the web client."""

    name: str = Field(description="As the page has it.")


api = Routes("web_client", "development", prefix=None, public=True)


def page(folder: Path) -> Response:
    """Return the client's page, which lies in ``folder``."""
    return _file(folder / "index.html", PAGE_CACHING)


@api.get(
    "/config.json",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}, **errors_of_anyone()},
    operation_id="getWebClientConfig",
    summary="What the web client is told, on a laptop",
)
def config() -> Response:
    """What the web client is told, on a laptop."""
    response = jsonify(_config())
    response.headers["Cache-Control"] = PAGE_CACHING
    return response


@api.get(
    "/assets/<name>",
    responses={200: text_content("text/css", "text/javascript"), **errors_of_anyone(NotFound)},
    operation_id="getWebClientAsset",
    summary="A file of the web client, on a laptop",
)
def asset(path: WebFile) -> Response:
    """A file of the web client, on a laptop."""
    return _named(_built() / "assets", path.name, ASSETS_CACHING)


@api.get(
    "/<name>",
    responses={200: text_content("image/svg+xml"), **errors_of_anyone(NotFound)},
    operation_id="getFileBesideWebClient",
    summary="A file beside the web client's page, on a laptop",
)
def beside_page(path: WebFile) -> Response:
    """A file beside the web client's page, on a laptop."""
    return _named(_built(), path.name, PAGE_CACHING)


def _config() -> dict[str, Any]:
    settings = services().settings
    project = settings.cloud.project or "demo-project"
    firebase = {"apiKey": "emulator", "authDomain": f"{project}.firebaseapp.com", "projectId": project}
    return client_config(
        settings,
        mode=settings.environment.mode,
        membership=settings.membership.url,
        firebase=firebase if settings.environment.auth_emulator else None,
    )


def _built() -> Path:
    folder = services().settings.environment.web
    if folder is None:
        raise NotFound
    return folder


def _named(folder: Path, name: str, caching: str) -> Response:
    if not _SERVED.fullmatch(name):
        raise NotFound
    return _file(folder / name, caching)


def _file(path: Path, caching: str) -> Response:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound from None
    response = Response(content, mimetype=mimetypes.guess_type(path.name)[0] or "application/octet-stream")
    response.headers.update({**client_headers(_config()), "Cache-Control": caching})
    response.add_etag()
    return response.make_conditional(request)  # type: ignore[return-value]
