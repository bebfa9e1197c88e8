"""Register, list and remove the devices that receive a user's notifications."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ..errors import InvalidId, NotFound
from ..push.devices import Devices
from .base import Body, Path, Time, caller, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_DEVICE = {
    "id": "t0123456789abcdef0123456789abcdef01234567",
    "platform": "web",
    "registered_at": "2026-03-01T09:30:00.000Z",
}


class DeviceBody(Body):
    """A device, as Firebase Cloud Messaging knows it."""

    model_config = example({"token": "dGhpcyBpcyBhIHRva2Vu:APA91b", "platform": "web"})
    token: str = Field(
        min_length=1,
        max_length=4096,
        pattern=r"^[!-~]+$",
        description="The registration token that FCM gave the client.",
    )
    platform: Literal["android", "ios", "web"]


class DeviceAnswer(BaseModel):
    """A device. Its token is not told again."""

    model_config = example(_DEVICE)
    id: str
    platform: str
    registered_at: Time


class DeviceList(BaseModel):
    """The user's devices, the one registered last first."""

    model_config = example({"items": [_DEVICE]})
    items: list[DeviceAnswer]


api = Routes("devices", "devices", prefix="/v1")


@api.post(
    "/devices",
    rate="changes",
    responses={201: DeviceAnswer, **errors()},
    operation_id="registerDevice",
    summary="Have notifications sent to a device",
)
def register(body: DeviceBody) -> tuple[dict[str, Any], int]:
    """Have notifications sent to a device."""
    return Devices(services().store, services().clock).register(caller().scope, body.token, body.platform), 201


@api.get("/devices", responses={200: DeviceList, **errors()}, operation_id="listDevices", summary="List your devices")
def index() -> dict[str, Any]:
    """List your devices."""
    return {"items": Devices(services().store, services().clock).list(caller().scope)}


@api.delete(
    "/devices/<id>",
    rate="changes",
    responses={204: None, **errors(InvalidId, NotFound)},
    operation_id="removeDevice",
    summary="Send nothing to a device any more",
)
def remove(path: Path) -> tuple[str, int]:
    """Send nothing to a device any more."""
    Devices(services().store, services().clock).remove(caller().scope, path.id)
    return "", 204
