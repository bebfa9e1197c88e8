"""The outbox of usage reports: each is a job, which the commit that settles a request stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..jobs import Jobs, Prepared
from ..jobs.base import Kind
from ..metering.reports import METER, MeterUsage
from ..scope import Scope
from ..store.base import Create

__all__ = ["REPORT", "JobOutbox"]

REPORT: Final = Kind(METER, MeterUsage, max_attempts=20, seconds=60)


@dataclass(frozen=True, slots=True)
class ReportJob:
    """A job that reports usage, in the form of :class:`~firelaunch.metering.reports.StoredReport`."""

    prepared: Prepared
    jobs: Jobs

    @property
    def write(self) -> Create:
        """The write that stores the job."""
        return self.prepared.write

    def send(self) -> None:
        """Deliver the stored job. If that fails, a sweep delivers it later."""
        self.jobs.send(self.prepared)


@dataclass(frozen=True, slots=True)
class JobOutbox:
    """A :data:`~firelaunch.metering.reports.UsageOutbox` of jobs."""

    jobs: Jobs

    def __call__(self, user: Scope, usage: MeterUsage) -> ReportJob:
        """Return the job that reports ``usage``."""
        return ReportJob(self.jobs.prepare(user, REPORT, usage, key=usage.identifier), self.jobs)
