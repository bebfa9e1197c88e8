"""Providers as peers: one module each, which :mod:`firelaunch.services.build` imports only if it is in use.

To add one: write a module here, choose it in ``services/build.py`` (``_provider``), name it in ``settings/app.py``
(``Provider``), and say in ``llm/prices.py`` where its prices are.
"""
