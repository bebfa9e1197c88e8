"""Run Cloud Functions: HTTP and event entry points to the packages that the services use."""

from ..events import Change, StorageObject
from .scoped import Call, Ignored, scoped

__all__ = ["Call", "Change", "Ignored", "StorageObject", "scoped"]
