"""Serve the pages that come with firelaunch: HTML, CSS and JavaScript as the browser gets them, without a build step.

The files are in ``pages/``. Text of a model, a document or a user may be hostile, so there are three defenses: the
pages' scripts make DOM nodes and never HTML, the browser refuses HTML from them (Trusted Types), and the content
security policy allows these files only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from flask import Response

from ..errors import NotFound

__all__ = ["ASSET_TYPES", "asset_response", "page_response", "text_content"]

ASSET_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
"""The types of the files beside the pages, by the end of their names."""

_PAGES = Path(__file__).parent / "pages"
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src data:",  # the empty icon
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)


def page_response(file: str, values: Mapping[str, str], origins: Iterable[str] = ()) -> Response:
    """Return the response with a page.

    Args:
        values: what stands in the page in place of each of these words.
        origins: the origins that its scripts may call besides the page's own.
    """
    text = _content(file).decode()
    for word, value in values.items():
        text = text.replace(word, escape(value))
    policy = "; ".join((*_POLICY, " ".join(("connect-src 'self'", *origins))))
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Response(text, mimetype="text/html", headers=headers)


def asset_response(name: str, files: Mapping[str, str]) -> Response:
    """Return the response with a file that a page loads.

    Args:
        files: the page's files, by the names that the page has for them.

    Raises:
        NotFound: ``name`` is none of them.
    """
    if name not in files:
        raise NotFound
    return Response(_content(files[name]), mimetype=ASSET_TYPES[Path(name).suffix])


def text_content(*mimetypes: str) -> dict[str, object]:
    """Return the ``responses`` entry of a text of one of these types."""
    return {"content": {mimetype: {"schema": {"type": "string"}} for mimetype in mimetypes}}


@cache
def _content(file: str) -> bytes:
    return (_PAGES / file).read_bytes()
