"""Notifications to users' devices: a port, and Firebase Cloud Messaging behind it."""

from .base import Notification, Outcome, Push, PushUnavailable

__all__ = ["Notification", "Outcome", "Push", "PushUnavailable"]
