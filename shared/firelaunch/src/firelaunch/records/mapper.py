"""Turn the records of one collection in one scope into documents and back, also documents of older models."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError

from ..errors import BadRequest, Conflict, RecordUnreadable, ScopeViolation
from ..scope import Scope
from ..store.base import DELETE_FIELD, Create, Document, Update
from .collection import Collection
from .record import KEPT_FIELDS, Record, Stored
from .values import check_size, stored_fields

__all__ = ["VERSION", "RecordMapper"]

M = TypeVar("M", bound=Record)

VERSION: Final = "schema_version"
"""The document's field with the version of the model that wrote it."""


class RecordMapper(Generic[M]):
    """Maps the records of ``collection`` in ``scope``.

    Args:
        writer: the id of the user who adds records; None for code that works for nobody.
    """

    def __init__(self, collection: Collection[M], scope: Scope, writer: str | None = None) -> None:
        self.collection = collection
        self.scope = scope
        self._writer = writer

    def path(self, record: str | M) -> str:
        """Return the path of a record's document, by its id or by the record itself.

        Raises:
            InvalidId: the id is not valid.
            ScopeViolation: the record was read elsewhere: from another collection, user or app.
        """
        if not isinstance(record, Record):
            return self.scope.record(self.collection.name, record)
        if not record._stored.path:
            raise BadRequest(f"This {type(record).__name__} is not stored yet: add it first.")
        path = self.scope.record(self.collection.name, record.id)
        if record._stored.path != path:
            raise ScopeViolation(
                reason=f"{record._stored.path} is no record of {self.scope.records(self.collection.name)}"
            )
        return path

    def read(self, document: Document) -> M:
        """Return the record of a document. An older one is migrated, and gets the model's defaults.

        Raises:
            RecordUnreadable: the document does not fit the model, or cannot be migrated.
        """
        model = self.collection.model
        version = version_of(document)
        fields = self._migrated(document, version)
        try:
            record = model.model_validate(
                {name: value for name, value in fields.items() if name in model.model_fields},
                strict=False,
                extra="ignore",
                by_alias=False,
                by_name=True,
            )
        except ValidationError as error:
            raise RecordUnreadable(
                reason=f"{document.path} (version {version}) does not fit {model.__name__}: {_problem(error)}. Give "
                "the field a default, or raise the collection's version and have migrate() convert it"
            ) from error
        is_old = version < self.collection.version
        stale = frozenset(document.data) - set(model.model_fields) - set(KEPT_FIELDS) if is_old else frozenset()
        record._stored = Stored(
            document.path,
            _time(document.data.get("created_at"), document.create_time),
            _time(document.data.get("updated_at"), document.update_time),
            document.update_time,
            stale,
            version,
        )
        return record

    def _migrated(self, document: Document, version: int) -> Mapping[str, Any]:
        fields = {name: value for name, value in document.data.items() if name not in KEPT_FIELDS}
        if version >= self.collection.version or self.collection.migrate is None:
            return fields
        try:
            return self.collection.migrate(fields, version)
        except Exception as error:
            raise RecordUnreadable(
                reason=f"{document.path} (version {version}): migrate() raised {type(error).__name__}: {error}"
            ) from error

    def create(self, record: M, record_id: str | None, now: datetime) -> Create:
        """Return the write that adds a record.

        Raises:
            BadRequest: the record does not fit its model, or cannot be kept.
            TooLarge: the record has more than 1 MiB.
        """
        path = self.path(secrets.token_hex(10) if record_id is None else record_id)
        if self.collection.written_by and self._writer is not None:
            setattr(record, self.collection.written_by, self._writer)
        data = {**self.fields(record), "created_at": now, "updated_at": now, VERSION: self.collection.version}
        check_size(path, data)
        return Create(path, data)

    def update(self, record: M, now: datetime) -> Update:
        """Return the write that stores a record that was read, if nobody changed its document since.

        Raises:
            BadRequest, TooLarge: as :meth:`create`.
            Conflict: a newer version of the app wrote the document.
        """
        path, stored = self.path(record), record._stored
        if stored.version > self.collection.version:
            raise Conflict("A newer version of this app wrote this record; only that version can change it.")
        data = {**self.fields(record), "created_at": stored.created_at, "updated_at": now}
        data[VERSION] = self.collection.version
        check_size(path, data)
        return Update(path, {**data, **dict.fromkeys(stored.stale, DELETE_FIELD)}, stored.update_time)

    def written(self, record: M, path: str, now: datetime, update_time: datetime | None) -> M:
        """Make ``record`` know of the write that stored it, and return it."""
        before = record._stored if record._stored.path == path else Stored(created_at=now)
        record._stored = replace(
            before,
            path=path,
            updated_at=now,
            update_time=update_time,
            stale=frozenset(),
            version=self.collection.version,
        )
        return record

    def fields(self, record: M) -> dict[str, Any]:
        """Return a record's fields as they are stored, after checking them against the model once more.

        Raises:
            BadRequest: they do not fit the model, or cannot be kept. The message names the field.
        """
        model = self.collection.model
        if not isinstance(record, model):
            raise BadRequest(reason=f"the collection {self.collection.name!r} keeps {model.__name__} records")
        return stored_fields(self.checked({name: getattr(record, name) for name in model.model_fields}))

    def checked(self, fields: Mapping[str, Any]) -> M:
        """Return the record with ``fields``.

        Raises:
            BadRequest: they do not fit the model. The message names the field.
        """
        try:
            return self.collection.model.model_validate(dict(fields), by_alias=False, by_name=True)
        except ValidationError as error:
            raise BadRequest(f"{_problem(error)}.") from None


def version_of(document: Document) -> int:
    """Return the version of the model that wrote a document. Clients write none; theirs count as 1."""
    version = document.data.get(VERSION)
    return version if type(version) is int else 1


def _time(value: Any, otherwise: datetime) -> datetime:
    return value if isinstance(value, datetime) else otherwise


def _problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "record"
    return f"{where}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}"
