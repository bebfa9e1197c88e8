"""Read and write the records of one collection in one scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from ..errors import BadRequest, NotFound, PreconditionFailed
from ..metering.retries import Retries
from ..paging import Page
from ..scope import Scope
from ..store.base import Create, Delete, Increment, Query, Transaction, Update
from ..store.scoped import ScopedStore
from .collection import Collection
from .cursors import cursor_of, position_of
from .mapper import RecordMapper
from .queries import query_of
from .record import Record, Stored, revision_of, time_of
from .values import type_arguments

__all__ = ["MAX_PAGE", "Records", "RecordsTransaction"]

M = TypeVar("M", bound=Record)
N = TypeVar("N", bound=Record)
T = TypeVar("T")

Where = Mapping[str, Any] | None
Sorting = str | Sequence[str] | None

MAX_PAGE = 1000
"""The most records of one page."""


class Records(Generic[M]):
    """The records of one collection in one scope. :class:`.data.Data` makes it.

    Every method raises StoreError if the database cannot be reached, and InvalidId for an id that Firestore does not
    take.
    """

    def __init__(
        self,
        collection: Collection[M],
        store: ScopedStore,
        transact: Callable[[Callable[[Transaction], Any]], Any],
        scope_of: Callable[[Collection[Any]], Scope],
        retries: Retries,
        clock: Callable[[], datetime],
        writer: str | None = None,
    ) -> None:
        self._store = store
        self._transact = transact
        self._scope_of = scope_of
        self._retries = retries
        self._clock = clock
        self._writer = writer
        self._mapper = RecordMapper(collection, scope_of(collection), writer)

    def add(self, record: M, id: str | None = None) -> M:  # noqa: A002 - what its caller calls it
        """Add a record, and return it with its id, times and revision.

        Args:
            id: an id of your own, for example a date; None for a random one.

        Raises:
            AlreadyExists: the collection has a record with ``id``.
            BadRequest, TooLarge: the record cannot be kept. The message names the field.
        """
        now = self._clock()
        write = self._mapper.create(record, id, now)
        return self._mapper.written(record, write.path, now, self._store.commit([write]))

    def put(self, record: M, id: str) -> M:  # noqa: A002
        """Add a record under ``id``, or replace the one that is there. Return it with its times and revision.

        Of several writers, the last one's record stands, whole. A replaced record keeps its ``created_at``.

        Raises:
            BadRequest, TooLarge: the record cannot be kept. The message names the field.
            Conflict: a newer version of the app wrote the record that is there.
        """

        def attempt() -> M:
            before, new = self.find(id), record.model_copy()
            new._stored = Stored() if before is None else before._stored
            try:
                return self.add(new, id) if before is None else self._store_update(new)
            except NotFound as error:  # it was deleted since it was read
                raise PreconditionFailed(reason=self._mapper.path(id)) from error

        return self._retries.run(self._mapper.path(id), attempt)

    def get(self, id: str) -> M:  # noqa: A002
        """Return a record.

        Raises:
            NotFound: there is no record with ``id``.
        """
        record = self.find(id)
        if record is None:
            raise NotFound
        return record

    def find(self, id: str) -> M | None:  # noqa: A002
        """Return a record, or None if there is none with ``id``."""
        document = self._store.get(self._mapper.path(id))
        return None if document is None else self._mapper.read(document)

    def list(self, where: Where = None, order: Sorting = None, limit: int = 50, cursor: str | None = None) -> Page[M]:
        """Return a page of the records that match, and the cursor of the next page.

        Args:
            where: values by field: ``{"kind": "lunch", "kcal >=": 300, "state in": ["a", "b"]}``. A key is a field's
                name, or a name and one of ``== != < <= > >= in``. A dot leads into a model: "place.city".
            order: the field to sort by, or several; "-" before one that descends. Records come by id if it is None, and
                by the field of an inequality if there is one. Records without the field are left out.
            limit: the most records of the page, from 1 to 1,000.
            cursor: ``next_cursor`` of the page before.

        Raises:
            BadRequest: a field or a value of ``where`` or ``order`` is not one of the model's.
            InvalidCursor: the cursor is of another query, collection or user.
            SettingsError: the query needs an index that the collection does not declare.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise BadRequest(f"limit: a page has 1 to {MAX_PAGE} records.")
        query = self._query(where, order)
        after = position_of(query, cursor)
        documents = self._store.query(
            Query(query.collection, query.where, query.order, limit + 1, after, query.indexes)
        )
        next_cursor = None
        if len(documents) > limit:
            last = documents[limit - 1]
            next_cursor = cursor_of(query, [*(_value_at(last.data, each.field) for each in query.order), last.id])
        return Page([self._mapper.read(document) for document in documents[:limit]], next_cursor)

    def count(self, where: Where = None) -> int:
        """Return the number of records that match. ``where`` is as in :meth:`list`."""
        return self._store.count(self._query(where, None))

    def update(self, record: M | str, fields: Mapping[str, Any] | None = None, *, revision: str | None = None) -> M:
        """Store a changed record, and return it with its new revision.

        ``update(meal)`` stores a record that you read and changed, if nobody else changed it meanwhile.
        ``update("id", {"kcal": 300})`` changes the named fields and leaves the others to other writers.

        Args:
            record: the record, or its id.
            fields: with an id, the fields to change.
            revision: with an id, the revision that the record must have.

        Raises:
            NotFound: there is no such record.
            PreconditionFailed: the record has another revision. Read it again.
            BadRequest, TooLarge: the record cannot be kept. The message names the field.
        """
        if isinstance(record, str):
            return self._change(record, fields or {}, revision)
        if fields is not None or revision is not None:
            raise BadRequest(reason="fields and revision go with an id; a record has its own")
        if record.id and not record.revision:
            raise BadRequest(f"This {type(record).__name__} has no revision: read it again before you change it.")
        return self._store_update(record)

    def _store_update(self, record: M) -> M:
        now = self._clock()
        write = self._mapper.update(record, now)
        return self._mapper.written(record, write.path, now, self._store.commit([write]))

    def _change(self, record_id: str, fields: Mapping[str, Any], revision: str | None) -> M:
        wanted = None if revision is None else time_of(revision)
        unknown = sorted(set(fields) - set(self._mapper.collection.model.model_fields))
        if unknown:
            raise BadRequest(f"{unknown[0]}: {self._mapper.collection.model.__name__} has no such field.")

        def attempt() -> M | None:
            before = self.get(record_id)
            if wanted is not None and before.revision != revision_of(wanted):
                return None
            names = type(before).model_fields
            record = self._mapper.checked({**{name: getattr(before, name) for name in names}, **fields})
            record._stored = before._stored
            return self._store_update(record)

        record = self._retries.run(self._mapper.path(record_id), attempt)
        if record is None:
            raise PreconditionFailed(reason=self._mapper.path(record_id))
        return record

    def increment(self, id: str, field: str, by: int = 1) -> None:  # noqa: A002
        """Add ``by`` to a whole number of a record. Concurrent increments lose nothing.

        This is one write without a read. If the field has limits, or the collection migrates older records, it is a
        read and a write, and is repeated while others come first.

        Raises:
            NotFound: there is no record with ``id``.
            BadRequest: the field is no whole number, or would leave its limits.
        """
        collection = self._mapper.collection
        info = collection.model.model_fields.get(field)
        if info is None or type_arguments(info.annotation)[0] is not int:
            raise BadRequest(f"{field}: only a field of type int can be incremented.")
        if type(by) is not int or abs(by) >= 2**63:
            raise BadRequest(f"{field}: increment it by a whole number of at most 64 bits.")
        checks = collection.model.__pydantic_decorators__
        limited = info.metadata or checks.field_validators or checks.model_validators
        if limited or collection.migrate is not None:
            self._retries.run(self._mapper.path(id), lambda: self._add_to(id, field, by))
            return
        changes = {field: Increment(by), "updated_at": self._clock()}
        self._store.commit([Update(self._mapper.path(id), changes)])

    def _add_to(self, record_id: str, field: str, by: int) -> M:
        before = self.get(record_id)
        names = type(before).model_fields
        fields = {**{name: getattr(before, name) for name in names}, field: getattr(before, field) + by}
        record = self._mapper.checked(fields)
        record._stored = before._stored
        return self._store_update(record)

    def delete(self, record: M | str) -> None:
        """Delete a record. Nothing happens if it does not exist.

        Args:
            record: the record's id; or the record, which is deleted only if nobody changed it since it was read.

        Raises:
            PreconditionFailed: somebody changed it.
        """
        at = record._stored.update_time if isinstance(record, Record) else None
        self._store.commit([Delete(self._mapper.path(record), at)])

    def transaction(self, work: Callable[[RecordsTransaction[M]], T]) -> T:
        """Run ``work``, whose writes are stored together if nothing that it read has changed; else run it again.

        Args:
            work: reads first, then writes. It may run several times, so it should do nothing else.

        Raises:
            Contention: other writers came first in all attempts. Errors of ``work`` pass through. Nothing is written.
            OutsideTransaction: ``work`` writes by something else than its argument.
        """
        collection, scope_of, clock, writer = self._mapper.collection, self._scope_of, self._clock, self._writer
        result: T = self._transact(lambda raw: work(RecordsTransaction(raw, collection, scope_of, clock(), writer)))
        return result

    def _query(self, where: Where, order: Sorting) -> Query:
        mapper = self._mapper
        return query_of(mapper.collection, mapper.scope.records(mapper.collection.name), where, order)


class RecordsTransaction(Generic[M]):
    """The records of one collection inside a transaction. All reads come before the first write."""

    def __init__(
        self,
        raw: Transaction,
        collection: Collection[M],
        scope_of: Callable[[Collection[Any]], Scope],
        now: datetime,
        writer: str | None = None,
    ) -> None:
        self._raw = raw
        self._scope_of = scope_of
        self._now = now
        self._writer = writer
        self._mapper = RecordMapper(collection, scope_of(collection), writer)

    def of(self, collection: Collection[N]) -> RecordsTransaction[N]:
        """Return another collection of the same owner, or of the app, inside the same transaction."""
        return RecordsTransaction(self._raw, collection, self._scope_of, self._now, self._writer)

    def get(self, id: str) -> M:  # noqa: A002
        """Return a record.

        Raises:
            NotFound: there is no record with ``id``.
        """
        record = self.find(id)
        if record is None:
            raise NotFound
        return record

    def find(self, id: str) -> M | None:  # noqa: A002
        """Return a record, or None."""
        document = self._raw.get(self._mapper.path(id))
        return None if document is None else self._mapper.read(document)

    def list(self, where: Where = None, order: Sorting = None, limit: int = 50) -> Sequence[M]:
        """Return the first records that match. The arguments are as in :meth:`Records.list`."""
        if not 1 <= limit <= MAX_PAGE:
            raise BadRequest(f"limit: a page has 1 to {MAX_PAGE} records.")
        mapper = self._mapper
        query = query_of(mapper.collection, mapper.scope.records(mapper.collection.name), where, order)
        found = self._raw.query(Query(query.collection, query.where, query.order, limit, None, query.indexes))
        return [mapper.read(document) for document in found]

    def add(self, record: M, id: str | None = None) -> M:  # noqa: A002
        """Add a record, and return it with its id. Its revision is there once the transaction is committed."""
        return self._write(self._mapper.create(record, id, self._now), record)

    def update(self, record: M) -> M:
        """Store a changed record, and return it. Its new revision is there once the transaction is committed."""
        return self._write(self._mapper.update(record, self._now), record)

    def _write(self, write: Create | Update, record: M) -> M:
        self._raw.write(write)
        # A copy: if the transaction is tried again, the record still has the revision that it was read with.
        copy = self._mapper.written(record.model_copy(), write.path, self._now, None)

        def learn(at: datetime) -> None:
            for each in (record, copy):
                self._mapper.written(each, write.path, self._now, at)

        self._raw.on_commit(learn)
        return copy

    def delete(self, record: M | str) -> None:
        """Delete a record, by its id or by the record itself."""
        at = record._stored.update_time if isinstance(record, Record) else None
        self._raw.write(Delete(self._mapper.path(record), at))


def _value_at(data: Mapping[str, Any], field: str) -> Any:
    value: Any = data
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
