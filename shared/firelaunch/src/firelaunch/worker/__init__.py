"""Run jobs: handlers by kind of job, and the runner that makes one attempt at a job, from its lease to its end."""

from .. import former_names
from .handlers import Cancelled, Handlers, JobDone, JobFailed, JobRun, Postponed
from .runner import Runner

__all__ = ["Cancelled", "Handlers", "JobDone", "JobFailed", "JobRun", "Postponed", "Runner"]

__getattr__ = former_names(__name__, {"Done": "firelaunch.JobDone", "Run": "firelaunch.JobRun"})
