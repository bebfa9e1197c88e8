"""Re-embedding as a job of the app, for those who would rather ask for it than run a command."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from ...errors import Conflict, SettingsError
from ...jobs.base import Kind
from .. import Handlers, JobDone, JobFailed, JobRun, Postponed

__all__ = ["REEMBED", "Reembed", "reembed_handlers"]

_PAUSE = 5.0
"""Seconds until documents are looked at again whose own jobs were at them."""


class Reembed(BaseModel):
    """The payload.

    Args:
        version: id of the index version that the settings ask for where the job was begun.
    """

    model_config = ConfigDict(extra="forbid")

    version: str


REEMBED: Final = Kind("reembed", Reembed, max_attempts=20, seconds=1500)


def reembed_handlers(more: Handlers | None) -> Handlers:
    """The handler of re-embeddings, and others. A try goes on where the one before has ended."""
    handlers = Handlers(more)

    @handlers.on(REEMBED)
    def reembed(run: JobRun, asked: Reembed) -> JobDone:
        from ...documents.reembed import Reembedding  # with what reads and cuts documents, which no start waits for

        if run.scope.uid is not None:
            raise JobFailed("A re-embedding is the app's.")
        if asked.version != run.services.documents.versions.wanted.id:
            # An instance of before the change, or of after the next one, would build and switch to its own.
            raise Conflict("This instance's settings ask for another index version than the job.", retry_after=_PAUSE)
        work = Reembedding(run.services.store, run.services.documents)
        try:
            work.begin()
        except (SettingsError, Conflict) as error:
            raise JobFailed(error.message) from error
        missing = work.survey().missing
        for done in work.build(check=run.check):
            run.progress(done, max(done, missing))
        if work.refused:
            path, reason = work.refused[0]
            raise JobFailed(
                f"{len(work.refused)} documents could not be built, so nothing was switched; {path}: {reason}"
            )
        if not work.switch():
            raise Postponed(retry_after=_PAUSE)
        return JobDone({"version": work.target.id, "cost_micro_usd": work.micro_usd})

    return handlers
