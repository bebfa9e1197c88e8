"""The report of a request to a meter in Stripe, and the port to the outbox that takes it.

The commit that settles a request stores the job that reports it, so no report is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from pydantic import BaseModel, Field

from ..scope import Scope
from ..store.base import Create

__all__ = ["METER", "MeterUsage", "StoredReport", "UsageOutbox"]

METER: Final = "meter"
"""The kind of the jobs that report."""


class MeterUsage(BaseModel):
    """The usage of a customer.

    Attributes:
        meter: the meter's event name.
        value: what is counted, in the unit that the plan's ``meter_counts`` names.
        identifier: tells the event from all others.
        at: the time of use.
    """

    meter: str = Field(max_length=100)
    customer: str
    value: int = Field(gt=0)
    identifier: str = Field(max_length=100)
    at: datetime


class StoredReport(Protocol):
    """A report that ``write`` stores. Commit that with the settlement."""

    @property
    def write(self) -> Create:
        """The write."""

    def send(self) -> None:
        """Have the report delivered, once it is stored. If that fails, it is delivered later."""


UsageOutbox = Callable[[Scope, MeterUsage], StoredReport]
"""Returns the report of what a user used."""
