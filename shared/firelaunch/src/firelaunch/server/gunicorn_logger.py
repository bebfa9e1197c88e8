"""gunicorn's own log lines, by way of the root's configuration like all others (:mod:`firelaunch.telemetry`)."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import glogging

__all__ = ["Logger"]


class Logger(glogging.Logger):  # type: ignore[misc]
    """Leaves standard error to the root's handler; a file that gunicorn was told to write gets the root's form."""

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None) -> None:
        log.propagate = output == "-"
        if output == "-":
            return
        form = next((handler.formatter for handler in logging.getLogger().handlers if handler.formatter), fmt)
        super()._set_handler(log, output, form, stream)
