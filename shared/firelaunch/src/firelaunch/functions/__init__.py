"""What Cloud Functions run: HTTP and events in front of the same rooms that the services use."""

from .events import Change, StorageObject
from .scoped import Call, Ignored, scoped

__all__ = ["Call", "Change", "Ignored", "StorageObject", "scoped"]
