"""The wall around an index: nothing goes in or comes out that does not belong to this app and the current scope.

Adapters filter by scope themselves. This wall checks their results all the same, because an index that several apps
share may be misconfigured, or filled by someone else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import BadRequest, PreconditionFailed, ScopeViolation
from ...scope import Scope, check_id
from ...store.fence import Fence
from .base import Entry, Hit, Index, Where, owner_of, scopes_of

if TYPE_CHECKING:
    from .base import Vector

__all__ = ["MAX_HITS", "ScopedIndex"]

log = logging.getLogger(__name__)

MAX_HITS = 1_000
"""The most hits of one query: the smallest limit of all indexes (Firestore's ``find_nearest``)."""

_TAG = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TAG_CHARACTERS = 200
_TRIES = 8
"""Tries of a write whose document's record changes meanwhile, for example because progress is recorded in it."""

_MAX_VALUES = 30
"""The most values of a tag's filter: Firestore's limit of an ``in``
(https://firebase.google.com/docs/firestore/query-data/queries).
"""

_MAX_DOCUMENTS = 1_000

_RESERVED = {"document", "app", "owner", "version"}


class ScopedIndex:
    """An :class:`~firelaunch.rag.index.base.Index` in which only one app's entries exist.

    Raises (every method): ScopeViolation for a scope of another app, BadRequest for ids, tags, vectors or a ``k`` that
    an index could misread; both before anything is sent.
    """

    def __init__(self, index: Index, app_id: str, only: Scope | None = None) -> None:
        self.__index = index
        self.__app_id = app_id
        self.__only = only
        self.has_words = index.has_words

    def within(self, scope: Scope) -> ScopedIndex:
        """Return the index for the entries of ``scope`` and those that it may search, as for a job.

        Raises:
            ScopeViolation: ``scope`` is not inside this one.
        """
        return ScopedIndex(self.__index, self.__app_id, self.__plain_scope(scope))

    def upsert(self, scope: Scope, version: str, entries: Sequence[Entry], fence: Fence | None = None) -> None:
        """Write entries, as :meth:`Index.upsert <firelaunch.rag.index.base.Index.upsert>` describes.

        If the record changes but still allows the write, the write is repeated.
        """
        scope = self.__plain_scope(scope, version)
        own = [_plain_entry(entry) for entry in entries]
        if own:
            _retry_while_allowed(fence, lambda: self.__index.upsert(scope, version, own, fence))

    def delete(
        self,
        scope: Scope,
        document: str | None = None,
        *,
        version: str | None = None,
        ids: Collection[str] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Remove entries, as :meth:`Index.delete <firelaunch.rag.index.base.Index.delete>` describes."""
        scope = self.__plain_scope(scope, *(name for name in (version, document) if name is not None))
        own = None if ids is None else frozenset(check_id(each) for each in ids)
        if own is not None and (document is None or version is None):
            raise BadRequest("Entries are removed by their ids from one document in one version.")
        if own is None or own:
            _retry_while_allowed(
                fence, lambda: self.__index.delete(scope, document, version=version, ids=own, fence=fence)
            )

    def nearest(
        self, scope: Scope, version: str, vector: Vector, k: int, where: Where | None = None, *, library: bool = True
    ) -> list[Hit]:
        """Return the nearest entries, as :meth:`Index.nearest <firelaunch.rag.index.base.Index.nearest>` describes."""
        scope = self.__plain_scope(scope, version)
        _check_vector(vector)
        where = _plain_filter(where, k)
        return self._drop_foreign(
            scope, version, library, self.__index.nearest(scope, version, vector, k, where, library=library)
        )

    def matching(
        self,
        scope: Scope,
        version: str,
        query: str,
        k: int,
        where: Where | None = None,
        *,
        library: bool = True,
        texts: bool = True,
    ) -> list[Hit]:
        """Return the entries that match the words best.

        :meth:`Index.matching <firelaunch.rag.index.base.Index.matching>` describes the arguments.
        """
        scope = self.__plain_scope(scope, version)
        where = _plain_filter(where, k)
        hits = self.__index.matching(scope, version, query, k, where, library=library, texts=texts)
        return self._drop_foreign(scope, version, library, hits)

    def texts(self, scope: Scope, version: str, hits: Sequence[Hit], *, library: bool = True) -> list[Hit]:
        """Return the hits, which are of one version, with their texts.

        :meth:`Index.texts <firelaunch.rag.index.base.Index.texts>` has the details.
        """
        scope = self.__plain_scope(scope, version)
        own = self._drop_foreign(scope, version, library, hits)
        return self._drop_foreign(scope, version, library, self.__index.texts(scope, own)) if own else []

    def read(self, scope: Scope, version: str, document: str) -> list[Entry]:
        """Return a document's entries, as :meth:`Index.read <firelaunch.rag.index.base.Index.read>` describes.

        Entries of other documents are dropped.
        """
        scope = self.__plain_scope(scope, version, document)
        hits = self.__index.read(scope, version, document)
        own = [hit.entry for hit in self._drop_foreign(scope, version, False, hits)]
        return [entry for entry in own if entry.document == document]

    def count(self, scope: Scope, version: str) -> int:
        """Return the number of entries, as :meth:`Index.count <firelaunch.rag.index.base.Index.count>` describes."""
        scope = self.__plain_scope(scope, version)
        return self.__index.count(scope, version)

    def drop(self, version: str) -> None:
        """Remove a version of this app, as :meth:`Index.drop <firelaunch.rag.index.base.Index.drop>` describes."""
        self.__plain_scope(Scope(self.__app_id))
        self.__index.drop(self.__app_id, check_id(version))

    def close(self) -> None:
        """Release connections and memory, as :meth:`Index.close <firelaunch.rag.index.base.Index.close>` describes."""
        self.__index.close()

    def __plain_scope(self, scope: Scope, *names: str) -> Scope:
        """Return a plain copy of ``scope`` after checking it.

        The copy goes to the index, because a subclass could show one scope to this check and another to the index.
        """
        own = Scope.plain(scope)
        if own.app_id != self.__app_id or (self.__only is not None and self.__only.uid not in {None, own.uid}):
            bound = (self.__only or Scope(self.__app_id)).root
            raise ScopeViolation(reason=f"the index of {bound!r} was asked for entries of {own.root!r}")
        for name in names:
            check_id(name)
        return own

    def _drop_foreign(self, scope: Scope, version: str, library: bool, hits: Sequence[Hit]) -> list[Hit]:
        owners = {owner_of(each) for each in scopes_of(scope, library)}
        own = [h for h in hits if h.app_id == self.__app_id and h.owner in owners and h.version == version]
        if len(own) < len(hits):
            foreign = next(h for h in hits if h not in own)
            log.error(
                "security: the index returned %d entries that are not of %s, and they were dropped; the first is %r of "
                "%r in app %r, version %r",
                len(hits) - len(own), scope.root, foreign.entry.id, foreign.owner, foreign.app_id, foreign.version,
            )  # fmt: skip
        return own


def _retry_while_allowed(fence: Fence | None, write: Callable[[], None]) -> None:
    for _ in range(_TRIES - 1):
        try:
            return write()
        except PreconditionFailed:
            if fence is None:
                raise
            fence.check()
    return write()


def _plain_entry(entry: Entry) -> Entry:
    if type(entry) is not Entry:
        raise ScopeViolation(reason=f"a {type(entry).__name__} is no entry")
    own = replace(entry, tags=dict(entry.tags), place=dict(entry.place))
    check_id(own.id)
    check_id(own.document)
    for name, value in own.tags.items():
        if (
            type(name) is not str
            or not _TAG.fullmatch(name)
            or name in _RESERVED
            or not isinstance(value, str)
            or len(value) > _TAG_CHARACTERS
        ):
            raise BadRequest(f"The tag {name[:40]!r} cannot be kept: a short name of a-z, 0-9 and _, and a short text.")
    if own.vector is not None:
        _check_vector(own.vector)
    return own


def _check_vector(vector: Vector) -> None:
    import numpy as np

    length = float(np.linalg.norm(vector)) if np.ndim(vector) == 1 and len(vector) else 0.0
    if not np.isfinite(length) or length == 0.0:
        raise BadRequest("A vector has to be a row of finite numbers that are not all zero.")


def _plain_filter(where: Where | None, k: int) -> Mapping[str, Sequence[str]]:
    if not 1 <= k <= MAX_HITS:
        raise BadRequest(f"A search gives 1 to {MAX_HITS} results.")
    own: dict[str, list[str]] = {}
    for name, values in (where or {}).items():
        own[name] = [] if isinstance(values, str) else list(values)
        valid_name = type(name) is str and (name == "document" or (_TAG.fullmatch(name) and name not in _RESERVED))
        most = _MAX_DOCUMENTS if name == "document" else _MAX_VALUES
        valid_values = 1 <= len(own[name]) <= most and all(type(v) is str for v in own[name])
        if not valid_name or not valid_values:
            raise BadRequest(f"The filter on {name!r:.40} is not valid: a tag's name, and 1 to {most} texts.")
    return own
