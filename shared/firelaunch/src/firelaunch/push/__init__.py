"""Notifications to users' devices: a port, and Firebase Cloud Messaging behind it."""

from .base import Outcome, Push, PushMessage, PushUnavailable

__all__ = ["Outcome", "Push", "PushMessage", "PushUnavailable"]
