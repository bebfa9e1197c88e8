"""Jobs: work that must not run inside a request, kept as documents and brought to a worker at least once.

The document is the truth: what is to be done, for whom, who is at it, how far it has come. A backend only sees to it
that somebody looks at a job when it is due.
"""

from .base import Backend, Callers, Delivery, Job, Kind
from .jobs import Jobs, Prepared

__all__ = ["Backend", "Callers", "Delivery", "Job", "Jobs", "Kind", "Prepared"]
