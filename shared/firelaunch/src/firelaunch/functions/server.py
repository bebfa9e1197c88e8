"""Serve functions with the worker and the limits that apps have.

functions-framework runs gunicorn with its own settings, and neither its command nor an environment variable can change
the worker. It also reads a request's whole body before it answers, whoever sent the body and however slowly.
"""

from __future__ import annotations

import os
from typing import Any

import functions_framework
from flask import Flask
from functions_framework._http import gunicorn as framework_server
from gunicorn.app.base import BaseApplication

from ..server import gunicorn_config
from ..server.app import trust_hops

__all__ = ["FunctionServer", "use_worker"]

_THREADS = 8


class FunctionServer(BaseApplication):  # type: ignore[misc]
    """A gunicorn server for functions-framework's app, configured by :mod:`firelaunch.server.gunicorn_config`.

    Args:
        app: the app of one function.
        host, port: the address to listen on.
    """

    def __init__(self, app: Flask, host: str, port: int | str, _debug: bool, **_options: Any) -> None:
        self.app = app
        self.address = f"{host}:{port}"
        _answer_before_the_body(app)
        if os.environ.get("K_SERVICE"):
            trust_hops(app, 1)
        super().__init__()

    def load_config(self) -> None:
        """Use the settings of apps, except for the address and the number of threads (THREADS)."""
        for name, value in vars(gunicorn_config).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        threads = int(os.environ.get("THREADS", str(_THREADS))) + gunicorn_config.SPARE_THREADS
        self.cfg.set("bind", self.address)
        self.cfg.set("threads", threads)
        self.cfg.set("worker_connections", gunicorn_config.connections(threads))

    def load(self) -> Flask:
        """Return the app."""
        return self.app


def use_worker() -> None:
    """Make functions-framework's command use :class:`FunctionServer`. ``functions/main.py`` calls this."""
    vars(framework_server)["GunicornApplication"] = FunctionServer


def _answer_before_the_body(app: Flask) -> None:
    """Let the app answer before it has read the whole body. The worker then closes the connection.

    A refused client thus can't hold a thread with a slow body.
    """
    for functions in app.after_request_funcs.values():
        functions[:] = [function for function in functions if function is not functions_framework.read_request]
