"""Compose the security rules of all apps, and compare them with the live ones."""
