"""Events of Google's services: read what Eventarc and Pub/Sub send, and decide what is acknowledged."""

from .cloud_events import Change, Malformed, Received, StorageObject, received
from .deliveries import MAX_EVENT, ForOthers, Ignored, acknowledge, check_home
from .patterns import PathPattern

__all__ = [
    "MAX_EVENT",
    "Change",
    "ForOthers",
    "Ignored",
    "Malformed",
    "PathPattern",
    "Received",
    "StorageObject",
    "acknowledge",
    "check_home",
    "received",
]
