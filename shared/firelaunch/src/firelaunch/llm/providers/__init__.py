"""Providers as peers: each one a module that :mod:`firelaunch.services.build` imports when it is the one in use."""
