"""Make the events that Google's services send to a function, in both forms of CloudEvents over HTTP.

They follow Google's examples (https://github.com/googleapis/google-cloudevents) and message types (``google-events``).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

__all__ = ["Sent", "document_event", "pushed", "storage_finalized", "storage_notified"]

_DATA = "https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/firestore/v1/data.proto"


@dataclass(frozen=True, slots=True)
class Sent:
    """The headers and body of a POST to a function."""

    headers: Mapping[str, str]
    body: bytes


def storage_finalized(
    bucket: str,
    name: str,
    generation: int = 1588778055917163,
    *,
    structured: bool = False,
    content_type: str = "text/plain",
    size: int = 12,
    at: datetime | None = None,
    **changes: Any,
) -> Sent:
    """Return the event that a file was uploaded to Cloud Storage.

    Args:
        changes: attributes that replace the event's own; None removes one.
    """
    at = at or datetime.now(UTC)
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {
        "bucket": bucket,
        "contentType": content_type,
        "crc32c": "rTVTeQ==",
        "etag": "CNHZkbuF/ugCEAE=",
        "generation": str(generation),
        "id": f"{bucket}/{name}/{generation}",
        "kind": "storage#object",
        "md5Hash": "kF8MuJ5+CTJxvyhHS1xzRg==",
        "mediaLink": f"https://www.googleapis.com/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media",
        "metageneration": "1",
        "name": name,
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{quote(name, safe='')}",
        "size": str(size),
        "storageClass": "MULTI_REGIONAL",
        "timeCreated": time,
        "timeStorageClassUpdated": time,
        "updated": time,
    }
    attributes = {
        "id": str(1_000_000 + generation),
        "type": "google.cloud.storage.object.v1.finalized",
        "source": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        "subject": f"objects/{name}",
        "time": time,
        "bucket": bucket,
        **changes,
    }
    return _sent(attributes, json.dumps(data).encode(), "application/json", structured)


def storage_notified(
    bucket: str, name: str, generation: int = 1588778055917163, *, at: datetime | None = None, **changes: Any
) -> Sent:
    """Return the Pub/Sub push with Cloud Storage's notification that a file was uploaded.

    Args:
        changes: attributes that replace the message's own; None removes one.
    """
    attributes = {
        "bucketId": bucket,
        "eventTime": (at or datetime.now(UTC)).isoformat(),
        "eventType": "OBJECT_FINALIZE",
        "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
        "objectGeneration": str(generation),
        "objectId": name,
        "payloadFormat": "JSON_API_V1",
        **changes,
    }
    return pushed(attributes, storage_finalized(bucket, name, generation, at=at).body, at)


def pushed(attributes: Mapping[str, Any], data: bytes, at: datetime | None = None) -> Sent:
    """Return a Pub/Sub push with a message (https://cloud.google.com/pubsub/docs/push#receive_push)."""
    present = {name: value for name, value in attributes.items() if value is not None}
    number, time = secrets.token_hex(8), (at or datetime.now(UTC)).isoformat(timespec="milliseconds")
    message = {
        "attributes": present,
        "data": base64.b64encode(data).decode(),
        "messageId": number,
        "message_id": number,
        "publishTime": time,
        "publish_time": time,
    }
    body = {"message": message, "subscription": "projects/demo-project/subscriptions/fl-uploads-demo"}
    return Sent({"Content-Type": "application/json"}, json.dumps(body).encode())


def document_event(
    project: str,
    path: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    database: str = "(default)",
    structured: bool = False,
    as_json: bool = False,
    at: datetime | None = None,
    **changes: Any,
) -> Sent:
    """Return the event that a Firestore document was created, changed or deleted.

    Args:
        before, after: the document's fields; None if it did not exist before, or no longer exists.
        as_json: encode the data as JSON instead of protobuf, as a trigger may be configured.
        changes: attributes that replace the event's own; None removes one.
    """
    from google.events.cloud.firestore_v1.types.data import DocumentEventData
    from google.protobuf import json_format

    at = at or datetime.now(UTC)
    time = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    name = f"projects/{project}/databases/{database}/documents/{path}"

    def document(fields: Mapping[str, Any]) -> dict[str, Any]:
        encoded = {key: _value(value) for key, value in fields.items()}
        return {"name": name, "fields": encoded, "createTime": time, "updateTime": time}

    data: dict[str, Any] = {}
    if after is not None:
        data["value"] = document(after)
    if before is not None:
        data["oldValue"] = document(before)
    if before is not None and after is not None:
        changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        data["updateMask"] = {"fieldPaths": changed}
    message = json_format.ParseDict(data, DocumentEventData.pb()())
    attributes = {
        "id": secrets.token_hex(16),
        "type": "google.cloud.firestore.document.v1.written",
        "source": f"//firestore.googleapis.com/projects/{project}/databases/{database}",
        "subject": f"documents/{path}",
        "time": time,
        "project": project,
        "database": database,
        "namespace": "(default)",
        "document": path,
        "location": "eur3",
        "dataschema": _DATA,
        **changes,
    }
    if as_json:
        body = json_format.MessageToJson(message).encode()
        return _sent(attributes, body, "application/json", structured)
    return _sent(attributes, message.SerializeToString(), "application/protobuf", structured)


def _sent(attributes: Mapping[str, Any], data: bytes, content_type: str, structured: bool) -> Sent:
    fields = {"specversion": "1.0", **attributes}
    fields = {name: value for name, value in fields.items() if value is not None}
    if not structured:
        headers = {
            f"ce-{name}": quote(str(value), safe=" !#$&'()*+,/:;=?@[]{}|<>^`~") for name, value in fields.items()
        }
        return Sent({"Content-Type": content_type, **headers}, data)
    envelope: dict[str, Any] = {**fields, "datacontenttype": content_type}
    if content_type == "application/json":
        envelope["data"] = json.loads(data)
    else:
        envelope["data_base64"] = base64.b64encode(data).decode()
    return Sent({"Content-Type": "application/cloudevents+json; charset=UTF-8"}, json.dumps(envelope).encode())


def _value(value: Any) -> dict[str, Any]:
    """Encode a value as Firestore's REST API does."""
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"integerValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case datetime():
            return {"timestampValue": value.astimezone(UTC).isoformat().replace("+00:00", "Z")}
        case Mapping():
            return {"mapValue": {"fields": {key: _value(item) for key, item in value.items()}}}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(item) for item in value]}}
    raise TypeError(f"a {type(value).__name__} is no value of Firestore's")
