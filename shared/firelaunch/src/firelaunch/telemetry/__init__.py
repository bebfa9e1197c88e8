"""Logs, traces and metrics of a process. It knows nothing of what is logged and measured.

:mod:`.logs` configures the logs. :mod:`.spans` records what a request does and how long each part takes.
:mod:`.outbox` sends that, to :mod:`.otlp` or to :mod:`.console`. :mod:`.names` has the names of all of it.
"""

from .logs import CONTENT, EMAIL, REQUEST_ID, SECRET, TRACE, configure_logs, log_names, log_what_nobody_catches
from .spans import span

__all__ = [
    "CONTENT",
    "EMAIL",
    "REQUEST_ID",
    "SECRET",
    "TRACE",
    "configure_logs",
    "log_names",
    "log_what_nobody_catches",
    "span",
]
