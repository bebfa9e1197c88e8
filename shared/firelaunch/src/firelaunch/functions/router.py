"""Serve several functions in one process, each under its own name, so that there is one service to deploy and run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from wsgiref.util import shift_path_info

from flask import Request, Response, jsonify
from werkzeug.wrappers import Response as BaseResponse

__all__ = ["View", "route_by_name"]

View = Callable[[Request], BaseResponse]


def route_by_name(views: Mapping[str, View], environ: Mapping[str, str] = os.environ) -> View:
    """Return a function that answers ``/NAME/...`` as the function NAME answers ``/...``. Other paths are a 404.

    Args:
        views: the functions by name.
        environ: its FUNCTIONS lists the names to serve, separated by commas. If it is not set, none are served.
    """

    def view(request: Request) -> BaseResponse:
        served_names = {name.strip() for name in environ.get("FUNCTIONS", "").split(",")}
        function_environ = dict(request.environ)
        name = shift_path_info(function_environ)
        function = views.get(name) if name in served_names else None
        if function is None:
            return _not_found()
        function_environ["PATH_INFO"] = function_environ["PATH_INFO"] or "/"  # else Flask would redirect to "/"
        return function(Request(function_environ))

    return view


def _not_found() -> Response:
    response = jsonify(
        {"error": {"code": "not_found", "message": "No such function is served here.", "request_id": None}}
    )
    response.status_code = 404
    return response
