"""The base of the models that collections keep, and the revisions by which writers notice each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, PrivateAttr, computed_field
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..errors import BadRequest

__all__ = ["KEPT_FIELDS", "Record", "Stored", "revision_of", "time_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

KEPT_FIELDS: Final = ("id", "created_at", "updated_at", "revision", "schema_version")
"""The names that a record's own fields may not have."""

_EXAMPLE: Final = {
    "id": "0123456789abcdef0123",
    "created_at": "2026-03-01T09:30:00Z",
    "updated_at": "2026-03-01T09:30:00Z",
    "revision": "64bf6a3c5a200",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What a record knows of its document.

    Args:
        path: the document's path; empty before the record is added.
        update_time: the document's ``update_time`` as it was read or written; None if it is not known.
        stale: fields of an older version of the model, which the next write removes.
        version: the version of the model that wrote the document.
    """

    path: str = ""
    created_at: datetime = _EPOCH
    updated_at: datetime = _EPOCH
    update_time: datetime | None = None
    stale: frozenset[str] = field(default_factory=frozenset)
    version: int = 0


class Record(BaseModel):
    """The base of a model whose objects a collection keeps.

    ``id``, ``created_at``, ``updated_at`` and ``revision`` are kept for you and are read-only. They are part of a
    response, and not of a request. Before a record is added its id and its revision are empty.
    """

    model_config = ConfigDict(extra="forbid")

    _stored: Stored = PrivateAttr(default_factory=Stored)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Complete the example of a request into one of a response."""
        schema = handler(core_schema)
        model = handler.resolve_ref_schema(schema)
        if handler.mode == "serialization" and "example" in model:
            model["example"] = {**model["example"], **_EXAMPLE}
        return schema

    @computed_field(description="The record's id.")  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The record's id, which is unique in its collection."""
        return self._stored.path.rpartition("/")[2]

    @computed_field(description="When it was added.")  # type: ignore[prop-decorator]
    @property
    def created_at(self) -> datetime:
        """The time at which the record was added."""
        return self._stored.created_at

    @computed_field(description="When it was changed last.")  # type: ignore[prop-decorator]
    @property
    def updated_at(self) -> datetime:
        """The time at which the record was last changed."""
        return self._stored.updated_at

    @computed_field(description="Changes with each write.")  # type: ignore[prop-decorator]
    @property
    def revision(self) -> str:
        """The document's revision, which changes with each write."""
        return revision_of(self._stored.update_time)


def revision_of(update_time: datetime | None) -> str:
    """Return the revision of a document that was last written at ``update_time``; empty if that is not known."""
    return "" if update_time is None else f"{(update_time - _EPOCH) // _MICROSECOND:x}"


def time_of(revision: str) -> datetime:
    """Return the ``update_time`` of a revision.

    Raises:
        BadRequest: ``revision`` is not one of ours.
    """
    try:
        moment = _EPOCH + int(revision, 16) * _MICROSECOND
    except (TypeError, ValueError, OverflowError):
        raise BadRequest("That revision is not one of ours; read the record again.") from None
    if revision_of(moment) != revision:
        raise BadRequest("That revision is not one of ours; read the record again.")
    return moment
