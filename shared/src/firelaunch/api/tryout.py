"""A page at ``/`` to talk to an app from a browser. Like dev tokens, it is there in development alone."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from flask import Response
from flask_openapi3 import APIBlueprint
from flask_openapi3.models import Tag

from .refusals import errors_of_anyone

__all__ = ["routes"]

_FILE = Path(__file__).parent / "pages" / "try.html"


def routes(*, documented: bool) -> APIBlueprint:
    """The blueprint."""
    api = APIBlueprint("tryout", __name__, abp_tags=[Tag(name="development")], doc_ui=documented)

    @api.get(
        "/",
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **errors_of_anyone()},
        summary="Talk to the app from a browser, on a laptop",
    )
    def page() -> Response:
        text, policy = _page()
        return Response(text, mimetype="text/html", headers={"Content-Security-Policy": policy})

    return api


@cache
def _page() -> tuple[str, str]:
    text = _FILE.read_text(encoding="utf-8")
    style, script = (_hash(text, tag) for tag in ("style", "script"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hash(text: str, tag: str) -> str:
    """What a browser lets run is this very text, and nothing that came to stand on the page later."""
    [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
