"""An app's own data: typed collections of pydantic models, kept below a user or below the app.

:mod:`.collection` declares a collection, :mod:`.records` reads and writes it, and :mod:`.data` binds it to one scope.
"""
