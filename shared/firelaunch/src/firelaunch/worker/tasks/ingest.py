"""The jobs that take documents in: one document from its source to the index, and the pages of a site.

What does the work is in :mod:`firelaunch.worker.tasks.ingestion`, and imported when there is some: no start has to
wait for it.
"""

from __future__ import annotations

from ...documents.catalog import CRAWL, INGEST, Crawl, Ingest
from .. import Handlers, JobDone, JobRun

__all__ = ["document_handlers"]


def document_handlers(more: Handlers | None) -> Handlers:
    """The handlers of documents' jobs, and others."""
    handlers = Handlers(more)

    @handlers.on(INGEST)
    def ingest(run: JobRun, payload: Ingest) -> JobDone:
        from .ingestion import take_in

        return take_in(run, payload)

    @handlers.on(CRAWL)
    def crawl(run: JobRun, payload: Crawl) -> JobDone:
        from .ingestion import crawl_site

        return crawl_site(run, payload)

    return handlers
