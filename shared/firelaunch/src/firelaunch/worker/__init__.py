"""What does the work of jobs: the kinds that there are, and one attempt at a job from its lease to its end."""

from .handlers import Cancelled, Handlers, JobDone, JobFailed, JobRun, Postponed
from .runner import Runner

__all__ = ["Cancelled", "Handlers", "JobDone", "JobFailed", "JobRun", "Postponed", "Runner"]
