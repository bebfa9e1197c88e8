"""Serve the HTTP API: one module for each noun, with module-level views.

The views get the app's services from :func:`firelaunch.api.base.services`. :mod:`firelaunch.server.app` registers them.
"""
