"""The job that reports one request's usage to a meter in Stripe.

It may run again after Stripe took its event, because the answer or the worker was lost. Stripe refuses an identifier
that it has seen, but only for 24 hours (https://docs.stripe.com/api/billing/meter-event/create). So the job writes down
when it sent its event first, and once that time is over it does not send it again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ...billing.base import BillingError, BillingUnavailable
from ...metering.reports import MeterUsage
from ...services.usage_outbox import REPORT
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["meter_handlers"]

_RESEND: Final = timedelta(hours=23)
"""The time after its first send in which an event may be sent again: an hour less than Stripe remembers it."""

_TOO_OLD: Final = timedelta(days=34)
"""The age up to which an event is sent: a day less than Stripe takes it."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 3_600.0


def meter_handlers(more: Handlers | None) -> Handlers:
    """Return the handler of reports, together with ``more``."""
    handlers = Handlers(more)

    @handlers.on(REPORT)
    def report(run: JobRun, usage: MeterUsage) -> JobDone:
        payments, now = run.services.checkout.payments, run.services.clock()
        if payments is None:
            raise JobFailed("Billing is off, so nothing can be reported to Stripe.")
        if now - usage.at > _TOO_OLD:
            raise JobFailed("Stripe takes no usage that is over 35 days old.")
        sent_at = datetime.fromisoformat(run.checkpoint["sent_at"]) if run.checkpoint else now
        if now - sent_at > _RESEND:
            # Whether Stripe has it is not known, and a second one would be charged twice.
            raise JobFailed(f"Stripe may have this usage: look for {usage.identifier} and report it by hand if not.")
        if not run.checkpoint:
            run.commit(checkpoint={"sent_at": now.isoformat()})
        try:
            payments.report_usage(usage.meter, usage.customer, usage.value, usage.identifier, usage.at)
        except BillingUnavailable:
            waited = (now - sent_at).total_seconds()
            raise Postponed(retry_after=min(max(waited, _SHORTEST_PAUSE), _LONGEST_PAUSE)) from None
        except BillingError as error:
            raise JobFailed(error.message, reason=error.reason) from error
        return JobDone({"value": usage.value})

    return handlers
