"""Providers as peers: each one a module that :mod:`firelaunch.wiring` imports when it is the one in use."""
