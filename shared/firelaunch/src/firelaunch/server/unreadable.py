"""Refuse a request whose values make a model fail, rather than say what is wrong with them.

Pydantic reports what does not fit as a ValidationError. It lets other errors through: those of Python's types, for a
duration that no timedelta can hold, and those of an app's own validators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from traceback import walk_tb
from typing import Any

from flask import request
from pydantic import BaseModel, ValidationError

from ..errors import BadRequest

__all__ = ["refusal_of"]

_READERS = {f"_validate_{part}": part for part in ("body", "query", "path", "header", "cookie", "form")}
"""The functions of flask-openapi3 that read a part of a request, each with the name under which it has the model."""


def refusal_of(error: Exception) -> BadRequest | None:
    """Return the refusal for an error that a model raised while it read the request; None for any other error."""
    for frame, _ in walk_tb(error.__traceback__):
        part = _READERS.get(frame.f_code.co_name)
        if part is not None and frame.f_globals.get("__name__") == "flask_openapi3.request":
            return BadRequest(f"{_field(part, frame.f_locals[part])}: this value cannot be read.")
    return None


def _field(part: str, model: type[BaseModel]) -> str:
    """Return the name of the field that the model fails at; that of the request's part if it fails at several."""
    values: Mapping[str, Any] = {"query": request.args, "path": request.view_args or {}}.get(part, {})
    read: Callable[[dict[str, Any]], object] = model.model_validate
    if part == "body":
        values, read = request.get_json(), lambda each: model.model_validate_json(json.dumps(each))
    for name, value in values.items():
        try:
            read({name: value})
        except ValidationError:
            continue
        except Exception:
            return name
    return part
