"""The server of functions: functions-framework's command, on the worker and with the bounds that apps have.

functions-framework runs gunicorn with settings of its own, of which neither its command nor an environment variable can
change the worker. It reads all of a request's body before it sends an answer, whoever sent it and however slowly.
"""

from __future__ import annotations

import os
from typing import Any

import functions_framework
from flask import Flask
from functions_framework._http import gunicorn as framework_server
from gunicorn.app.base import BaseApplication

from ..server import gunicorn_config as serving
from ..server.app import trust_hops

__all__ = ["FunctionServer", "use_worker"]

_THREADS = 8


class FunctionServer(BaseApplication):  # type: ignore[misc]
    """Run the app that functions-framework made under gunicorn, with :mod:`firelaunch.server.gunicorn_config`.

    Args:
        app: the app of one function.
        host, port: where it listens.
    """

    def __init__(self, app: Flask, host: str, port: int | str, _debug: bool, **_options: Any) -> None:
        self.app = app
        self.address = f"{host}:{port}"
        _answer_before_the_body(app)
        if os.environ.get("K_SERVICE"):
            trust_hops(app, 1)
        super().__init__()

    def load_config(self) -> None:
        """Take the settings of apps, but for the address and the number of threads (THREADS)."""
        for name, value in vars(serving).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        threads = int(os.environ.get("THREADS", str(_THREADS))) + serving.SPARE_THREADS
        self.cfg.set("bind", self.address)
        self.cfg.set("threads", threads)
        self.cfg.set("worker_connections", serving.connections(threads))

    def load(self) -> Flask:
        """Return the app."""
        return self.app


def use_worker() -> None:
    """Have functions-framework's command serve by :class:`FunctionServer`; ``functions/main.py`` calls this."""
    vars(framework_server)["GunicornApplication"] = FunctionServer


def _answer_before_the_body(app: Flask) -> None:
    """Send answers at once, so that who is refused need not be read to the end; the worker closes the connection."""
    for functions in app.after_request_funcs.values():
        functions[:] = [function for function in functions if function is not functions_framework.read_request]
