"""Decide who belongs to which app. Only this room sets the custom claims by which rules and services decide.

Groups within an app use its invitations, policies and removals (:mod:`firelaunch.services.groups`).
"""
