"""A server that plays the Google APIs which a deploy calls, for the real gcloud on the other side."""

from .server import GoogleCloud, ServiceAccount

__all__ = ["GoogleCloud", "ServiceAccount"]
