"""Providers as peers: one module each, which :mod:`firelaunch.services.build` imports only if it is in use."""
