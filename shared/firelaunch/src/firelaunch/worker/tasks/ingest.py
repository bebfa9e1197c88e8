"""The handlers of the jobs that index one document, and that crawl the pages of a site.

The work itself is in :mod:`firelaunch.worker.tasks.ingestion`. That module is imported with the first such job, so that
it does not slow down the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...documents.catalog import CRAWL, INGEST, Crawl, Ingest
from .. import Handlers, JobDone, JobRun

if TYPE_CHECKING:
    from ...records.collection import Collection

__all__ = ["document_handlers"]


def document_handlers(more: Handlers | None, collections: Sequence[Collection[Any]] = ()) -> Handlers:
    """Return the handlers of documents' jobs, together with ``more``.

    Args:
        collections: the app's own collections, whose searchable records are documents too.
    """
    handlers = Handlers(more)

    @handlers.on(INGEST)
    def ingest(run: JobRun, payload: Ingest) -> JobDone:
        from .ingestion import take_in

        return take_in(run, payload, collections)

    @handlers.on(CRAWL)
    def crawl(run: JobRun, payload: Crawl) -> JobDone:
        from .ingestion import crawl_site

        return crawl_site(run, payload)

    return handlers
