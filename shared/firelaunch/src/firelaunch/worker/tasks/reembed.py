"""The job that re-embeds an app's documents, as an alternative to the command."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from ...errors import AppBudgetExceeded, Conflict, SettingsError
from ...jobs.base import Kind
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["REEMBED", "Reembed", "reembed_handlers"]

_PAUSE = 5.0
"""Seconds until the job looks again at documents that their own jobs were working on."""

_BUDGET_PAUSE = 3_600.0
"""Seconds until a job that the app's budget does not cover tries again, at most."""


class Reembed(BaseModel):
    """The payload.

    Args:
        version: the id of the index version that the settings asked for when the job was enqueued.
    """

    model_config = ConfigDict(extra="forbid")

    version: str


REEMBED: Final = Kind("reembed", Reembed, max_attempts=20, seconds=1500)


def reembed_handlers(more: Handlers | None) -> Handlers:
    """Return the handler of re-embeddings, together with ``more``. Each attempt goes on where the last one ended."""
    handlers = Handlers(more)

    @handlers.on(REEMBED)
    def reembed(run: JobRun, payload: Reembed) -> JobDone:
        from ...documents.reembed import Reembedding  # imports parsing and chunking: not at start-up

        if run.scope.uid is not None:
            raise JobFailed("A re-embedding is the app's.")
        if payload.version != run.services.documents.versions.configured.id:
            # This instance has older or newer settings than the job. It would build and switch to another version.
            raise Conflict("This instance's settings ask for another index version than the job.", retry_after=_PAUSE)
        work = Reembedding(run.services.store, run.services.documents, run.services.metering)
        try:
            work.begin()
        except (SettingsError, Conflict) as error:
            raise JobFailed(error.message) from error
        missing = work.survey().missing
        try:
            for done in work.build(check=run.check):
                run.progress(done, max(done, missing))
        except AppBudgetExceeded as error:
            raise Postponed(retry_after=min(error.retry_after or _BUDGET_PAUSE, _BUDGET_PAUSE)) from error
        if work.refused:
            path, reason = work.refused[0]
            raise JobFailed(
                f"{len(work.refused)} documents could not be built, so nothing was switched; {path}: {reason}"
            )
        if not work.switch():
            raise Postponed(retry_after=_PAUSE)
        return JobDone({"version": work.target.id, "cost_micro_usd": work.micro_usd})

    return handlers
