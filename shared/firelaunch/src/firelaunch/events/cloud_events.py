"""Read Google's CloudEvents: which resource changed, and in which bucket or database.

The owner of an event follows from the resource's name in the payload, which Google's services wrote. If a header
contradicts the payload, the event is malformed. The accepted forms are structured and binary CloudEvents, in JSON and
for Firestore also protobuf (https://cloud.google.com/eventarc/docs/cloudevents), and messages that Pub/Sub pushes: a
notification of Cloud Storage (https://cloud.google.com/storage/docs/pubsub-notifications), or a CloudEvent that does
not fit into headers.
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
"""A number that fits 64 bits. The length limit keeps ``int`` from parsing thousands of digits."""

_PUBSUB_TRACE = "googclient_traceparent"
"""The attribute of a Pub/Sub message in which its publisher's client library names its span
(https://cloud.google.com/pubsub/docs/open-telemetry-tracing)."""

_STORAGE, _FIRESTORE = "google.cloud.storage.object.v1.", "google.cloud.firestore.document.v1."


class Malformed(Exception):
    """The request is no event that a function can handle. The message says why, without contents."""


@dataclass(frozen=True, slots=True)
class StorageObject:
    """One generation of a file in Cloud Storage, from a Storage event. ``size`` is in bytes."""

    bucket: str
    name: str
    generation: str
    size: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Change:
    """A Firestore document before and after a change; None if it did not exist before, or no longer exists.

    Events may arrive late, repeatedly and in any order, so rely on what the store holds now. ``created`` is the time at
    which the document was created.
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """An event and the resource that it is about.

    Args:
        id: the event's id, which repeated deliveries share.
        resource: the path of the document, or the file's name.
        home: the resource's place: ``bucket``, or ``project`` and ``database``.
        data: a :class:`StorageObject` or a :class:`Change`.
        trace: the W3C ``traceparent`` of what caused the event; "" if nobody says.
    """

    id: str
    type: str
    time: datetime | None
    resource: str
    home: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    trace: str = ""


def received(headers: Mapping[str, str], body: bytes) -> Received:
    """Return the event in a request.

    Raises:
        Malformed: the request is no event of Storage or Firestore.
    """
    from cloudevents.exceptions import GenericException
    from cloudevents.http import from_http

    pushed = _event_in_push(headers, body)
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
            return Received(event_id, kind, _time(attributes.get("time")), resource, home, value, _trace(attributes))
    raise Malformed("of a type that is not known here")


def _trace(attributes: Mapping[str, Any]) -> str:
    """Return the trace in an event's attributes, as the extension for distributed tracing has it.

    https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
    """
    trace = attributes.get("traceparent")
    return trace if isinstance(trace, str) else ""


def _event_in_push(headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], bytes] | None:
    """Return the event in a Pub/Sub push as headers and body of a binary CloudEvent, or None if it is no push.

    The format of a push: https://cloud.google.com/pubsub/docs/push#receive_push
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    if "ce-specversion" in lowered or not lowered.get("content-type", "").startswith("application/json"):
        return None
    try:
        message = _json(body).get("message")
    except Malformed:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("attributes"), dict):
        return None
    message_attributes = {str(name): str(value) for name, value in message["attributes"].items()}
    try:
        data = b64decode(str(message.get("data", "")), validate=True)
    except ValueError:
        raise Malformed("its data is no base64") from None
    if "ce-specversion" in message_attributes:
        return message_attributes, data
    if message_attributes.get("payloadFormat") != "JSON_API_V1" or message_attributes.get("eventType") not in _NOTIFIED:
        raise Malformed("of a message that is not known here")
    ce_attributes = {
        "specversion": "1.0",
        "id": str(message.get("messageId", "")),
        "type": _STORAGE + _NOTIFIED[message_attributes["eventType"]],
        "source": f"//storage.googleapis.com/projects/_/buckets/{message_attributes.get('bucketId', '')}",
        "subject": f"objects/{message_attributes.get('objectId', '')}",
        **({"time": str(message["publishTime"])} if "publishTime" in message else {}),
        **({"traceparent": message_attributes[_PUBSUB_TRACE]} if _PUBSUB_TRACE in message_attributes else {}),
    }
    return {"content-type": "application/json", **{f"ce-{name}": value for name, value in ce_attributes.items()}}, data


def _storage(attributes: Mapping[str, Any], data: Any) -> tuple[str, Mapping[str, str], StorageObject]:
    payload = _json(data)
    name, bucket, generation = (payload.get(key) for key in ("name", "bucket", "generation"))
    # Google's services write 64-bit numbers as text, but its examples have numbers.
    generation = str(generation) if isinstance(generation, int) and not isinstance(generation, bool) else generation
    if not all(isinstance(value, str) and value for value in (name, bucket, generation)):
        raise Malformed("its name, bucket or generation is missing")
    if not _NUMBER.fullmatch(str(generation)):
        raise Malformed("its generation is no number")
    _check_attribute(attributes.get("subject"), f"objects/{name}")
    _check_attribute(attributes.get("source"), f"//storage.googleapis.com/projects/_/buckets/{bucket}")
    size = str(payload.get("size", "0"))
    stored = StorageObject(
        str(bucket),
        str(name),
        str(generation),
        int(size) if _NUMBER.fullmatch(size) else 0,
        str(payload.get("contentType") or ""),
    )
    return stored.name, {"bucket": stored.bucket}, stored


def _firestore(attributes: Mapping[str, Any], data: Any) -> tuple[str, Mapping[str, str], Change]:
    event = _document_event(attributes, data)
    names = {document.name for document in (event.value, event.old_value) if document.name}
    match = _DOCUMENT.fullmatch(names.pop()) if len(names) == 1 else None
    if match is None:
        raise Malformed("it names no document, or two")
    _check_attribute(attributes.get("subject"), f"documents/{match['path']}")
    try:
        change = Change(
            _fields(event.old_value.fields) if event.old_value.name else None,
            _fields(event.value.fields) if event.value.name else None,
            _moment(event.value if event.value.name else event.old_value),
        )
    except (ValueError, OverflowError):
        raise Malformed("it holds a time that there is not") from None
    return match["path"], {"project": match["project"], "database": match["database"]}, change


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


def _moment(document: Any) -> datetime | None:
    created: datetime = document.create_time.ToDatetime(tzinfo=UTC)
    return created if document.HasField("create_time") else None


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


def _check_attribute(attribute: Any, expected: str) -> None:
    """Check that an attribute of the event names the resource; attributes may be percent-encoded."""
    if attribute is not None and expected not in {attribute, unquote(str(attribute))}:
        raise Malformed("its attributes and its data name two resources")


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo else None


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
