"""What does the work of jobs: the kinds that there are, and one attempt at a job from its lease to its end."""

from .handlers import Done, Handlers, JobFailed, Run
from .runner import Runner

__all__ = ["Done", "Handlers", "JobFailed", "Run", "Runner"]
