"""The Cloud Functions of the project: thin entries into firelaunch."""

from functools import cache

import functions_framework
from firelaunch.functions.wiring import build_door
from flask import Flask, Request, Response


@cache
def door() -> Flask:
    """The membership function's app, made by the first request."""
    return build_door()


@functions_framework.http
def membership(request: Request) -> Response:
    """Join and leave apps, and roles in them: docs/membership.md."""
    return Response.from_app(door(), request.environ)
