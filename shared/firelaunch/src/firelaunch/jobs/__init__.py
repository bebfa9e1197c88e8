"""Jobs: work that must not run inside a request, stored as documents and delivered to a worker at least once.

A job's document is the truth: it says what to do, for whom, which worker holds the job, and how far the work is. A
backend only makes sure that a worker looks at the job when it is due. :mod:`firelaunch.worker` runs jobs.
"""

from .base import Backend, Callers, Delivery, Job, Kind
from .queue import Jobs, Prepared

__all__ = ["Backend", "Callers", "Delivery", "Job", "Jobs", "Kind", "Prepared"]
