"""Build the Flask app of an HTTP function: request ids, the error format and a log line for each request."""

from __future__ import annotations

import logging
import secrets
import time
from datetime import UTC, datetime

from flask import Response, g, request
from pydantic import ValidationError

from ..server.app import App, handle_errors, invalid
from ..server.request_spans import begin_span, finish_span, leave_span
from ..store.fence import BEGAN
from ..telemetry import REQUEST_ID

__all__ = ["function_app"]

log = logging.getLogger(__name__)


def function_app(name: str, max_body: int) -> App:
    """Return a Flask app without routes. Set its ``tracer`` to have its requests traced.

    Args:
        name: the function's name.
        max_body: most bytes of a request's body.
    """
    app = App(name, title=name)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    handle_errors(app)
    app.register_error_handler(ValidationError, invalid)

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        BEGAN.set(datetime.now(UTC))
        REQUEST_ID.set("req_" + secrets.token_hex(10))
        begin_span(app.tracer)

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        BEGAN.set(None)
        leave_span()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-Id"] = REQUEST_ID.get() or ""
        response.headers.setdefault("Cache-Control", "no-store")
        finish_span(response)
        milliseconds = (time.monotonic() - g.began) * 1000
        log.info("%s %s %s %.0f ms", request.method, request.url_rule or "-", response.status_code, milliseconds)
        return response

    return app
