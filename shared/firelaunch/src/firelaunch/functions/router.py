"""Several functions in one process, each below its own name: one service at rest, one image, one thing to deploy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from wsgiref.util import shift_path_info

from flask import Request, Response, jsonify
from werkzeug.wrappers import Response as BaseResponse

__all__ = ["View", "together"]

View = Callable[[Request], BaseResponse]


def together(views: Mapping[str, View], environ: Mapping[str, str] = os.environ) -> View:
    """A function that answers ``/NAME/...`` as the function NAME answers ``/...``; whatever else is asked is a 404.

    Args:
        views: by name.
        environ: FUNCTIONS has the names of those that are served here, with commas between them; none where it is not
            set.
    """

    def view(asked: Request) -> BaseResponse:
        served = {name.strip() for name in environ.get("FUNCTIONS", "").split(",")}
        below = dict(asked.environ)
        name = shift_path_info(below)
        found = views.get(name) if name in served else None
        if found is None:
            return _not_found()
        below["PATH_INFO"] = below["PATH_INFO"] or "/"  # else Flask would redirect to it
        return found(Request(below))

    return view


def _not_found() -> Response:
    said = jsonify({"error": {"code": "not_found", "message": "No such function is served here.", "request_id": None}})
    said.status_code = 404
    return said
