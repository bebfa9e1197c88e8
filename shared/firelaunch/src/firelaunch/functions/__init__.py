"""What Cloud Functions run: HTTP and events in front of the same rooms that the services use."""

from .events import DocumentChange, StorageObject
from .scoped import Call, Ignored, scoped

__all__ = ["Call", "DocumentChange", "Ignored", "StorageObject", "scoped"]
