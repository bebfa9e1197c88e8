"""Decide who belongs to which app, and to which of its groups.

Only this room sets the custom claims by which rules and services decide who is a member of an app.
"""
