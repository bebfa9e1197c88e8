"""The HTTP API: one module a noun, with module-level views. They work with :func:`firelaunch.api.base.services`."""
