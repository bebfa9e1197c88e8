"""CloudEvents as Google sends them, read down to what matters here: which resource, in which bucket or database.

Whose event it is comes from the resource's own name in the payload, which Google's services wrote; a header that says
otherwise makes the event malformed. Structured and binary form, JSON and (for Firestore) protobuf are taken
(https://cloud.google.com/eventarc/docs/cloudevents); and what Pub/Sub pushes, which is a notification of Cloud Storage
(https://cloud.google.com/storage/docs/pubsub-notifications), or a CloudEvent that no header could carry.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

__all__ = ["Change", "Malformed", "Received", "StorageObject", "received"]

_DOCUMENT = re.compile(r"projects/(?P<project>[^/]+)/databases/(?P<database>[^/]+)/documents/(?P<path>.+)", re.DOTALL)
_NOTIFIED = {"OBJECT_FINALIZE": "finalized"}
_NUMBER = re.compile(r"[0-9]{1,19}")
"""What fits 64 bits, and is over a number of thousands of digits before ``int`` refuses it."""

_STORAGE, _FIRESTORE = "google.cloud.storage.object.v1.", "google.cloud.firestore.document.v1."


class Malformed(Exception):
    """The request is no event that a function here could act on; the message says why, with no content."""


@dataclass(frozen=True, slots=True)
class StorageObject:
    """One generation of a file in Cloud Storage, as a Storage event has it. ``size`` is in bytes."""

    bucket: str
    name: str
    generation: str
    size: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Change:
    """A Firestore document before and after; None where there was, or is, none.

    Events come late, more than once and in any order: what counts is what the store holds now.
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Received:
    """An event.

    Args:
        id: the same for each delivery of the same event.
        resource: the path of the document, or the file's name.
        home: where it lies: ``bucket``, or ``project`` and ``database``.
        data: a :class:`StorageObject` or a :class:`Change`.
    """

    id: str
    type: str
    time: datetime | None
    resource: str
    home: Mapping[str, str] = field(default_factory=dict)
    data: Any = None


def received(headers: Mapping[str, str], body: bytes) -> Received:
    """The event in a request.

    Raises:
        Malformed: it is none, or none of Storage's or Firestore's.
    """
    from cloudevents.exceptions import GenericException
    from cloudevents.http import from_http

    pushed = _pushed(headers, body)
    if pushed is not None:
        headers, body = pushed
    try:
        event = from_http(dict(headers), body, data_unmarshaller=lambda data: data)
        attributes, data = event.get_attributes(), event.get_data()
    except (GenericException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed(f"no CloudEvent ({type(error).__name__})") from None
    kind, event_id = attributes.get("type"), attributes.get("id")
    if not isinstance(kind, str) or not isinstance(event_id, str):
        raise Malformed("its type or its id is no text")
    for prefix, read in _READERS.items():
        if kind.startswith(prefix):
            resource, home, value = read(attributes, data)
            return Received(event_id, kind, _time(attributes.get("time")), resource, home, value)
    raise Malformed("of a type that is not known here")


def _pushed(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], bytes] | None:
    """The event in a message of Pub/Sub, in binary form; None where there is no message
    (https://cloud.google.com/pubsub/docs/push#receive_push)."""
    lower = {name.lower(): value for name, value in headers.items()}
    if "ce-specversion" in lower or not lower.get("content-type", "").startswith("application/json"):
        return None
    try:
        message = _json(body).get("message")
    except Malformed:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("attributes"), dict):
        return None
    told = {str(name): str(value) for name, value in message["attributes"].items()}
    try:
        data = b64decode(str(message.get("data", "")), validate=True)
    except ValueError:
        raise Malformed("its data is no base64") from None
    if "ce-specversion" in told:
        return told, data
    if told.get("payloadFormat") != "JSON_API_V1" or told.get("eventType") not in _NOTIFIED:
        raise Malformed("of a message that is not known here")
    about = {
        "specversion": "1.0",
        "id": str(message.get("messageId", "")),
        "type": _STORAGE + _NOTIFIED[told["eventType"]],
        "source": f"//storage.googleapis.com/projects/_/buckets/{told.get('bucketId', '')}",
        "subject": f"objects/{told.get('objectId', '')}",
        **({"time": str(message["publishTime"])} if "publishTime" in message else {}),
    }
    return {"content-type": "application/json", **{f"ce-{name}": value for name, value in about.items()}}, data


def _storage(attributes: Mapping[str, Any], data: Any) -> tuple[str, Mapping[str, str], StorageObject]:
    found = _json(data)
    name, bucket, generation = (found.get(key) for key in ("name", "bucket", "generation"))
    # Google writes 64-bit numbers as text, and its own examples as numbers.
    generation = str(generation) if isinstance(generation, int) and not isinstance(generation, bool) else generation
    if not all(isinstance(value, str) and value for value in (name, bucket, generation)):
        raise Malformed("its name, bucket or generation is missing")
    if not _NUMBER.fullmatch(str(generation)):
        raise Malformed("its generation is no number")
    _agree(attributes.get("subject"), f"objects/{name}")
    _agree(attributes.get("source"), f"//storage.googleapis.com/projects/_/buckets/{bucket}")
    size = str(found.get("size", "0"))
    stored = StorageObject(
        str(bucket),
        str(name),
        str(generation),
        int(size) if _NUMBER.fullmatch(size) else 0,
        str(found.get("contentType") or ""),
    )
    return stored.name, {"bucket": stored.bucket}, stored


def _firestore(attributes: Mapping[str, Any], data: Any) -> tuple[str, Mapping[str, str], Change]:
    event = _document_event(attributes, data)
    names = {document.name for document in (event.value, event.old_value) if document.name}
    found = _DOCUMENT.fullmatch(names.pop()) if len(names) == 1 else None
    if found is None:
        raise Malformed("it names no document, or two")
    _agree(attributes.get("subject"), f"documents/{found['path']}")
    try:
        change = Change(
            _fields(event.old_value.fields) if event.old_value.name else None,
            _fields(event.value.fields) if event.value.name else None,
        )
    except (ValueError, OverflowError):
        raise Malformed("it holds a time that there is not") from None
    return found["path"], {"project": found["project"], "database": found["database"]}, change


_READERS: Mapping[str, Callable[[Mapping[str, Any], Any], tuple[str, Mapping[str, str], Any]]] = {
    _STORAGE: _storage,
    _FIRESTORE: _firestore,
}


def _document_event(attributes: Mapping[str, Any], data: Any) -> Any:
    from google.events.cloud.firestore_v1.types.data import DocumentEventData
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError

    message = DocumentEventData.pb()()
    try:
        if str(attributes.get("datacontenttype", "")).partition(";")[0].strip() == "application/protobuf":
            message.ParseFromString(data if isinstance(data, bytes) else b"\xff")
        else:
            json_format.ParseDict(_json(data), message, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, RecursionError) as error:
        raise Malformed(f"its data is no document event ({type(error).__name__})") from None
    return message


def _json(data: Any) -> dict[str, Any]:
    if isinstance(data, str | bytes):
        from pydantic_core import from_json

        try:
            data = from_json(data)
        except ValueError:
            raise Malformed("its data is no JSON") from None
    if not isinstance(data, dict):
        raise Malformed("its data is no JSON object")
    return data


def _agree(said: Any, should: str) -> None:
    """What a header says of the resource; those are percent-encoded where they have to be."""
    if said is not None and should not in {said, unquote(str(said))}:
        raise Malformed("its attributes and its data name two resources")


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in fields.items()}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind in {None, "null_value"}:
        return None
    if kind == "map_value":
        return _fields(value.map_value.fields)
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "timestamp_value":
        return value.timestamp_value.ToDatetime(tzinfo=UTC)
    if kind == "geo_point_value":
        return {"latitude": value.geo_point_value.latitude, "longitude": value.geo_point_value.longitude}
    return getattr(value, kind)
