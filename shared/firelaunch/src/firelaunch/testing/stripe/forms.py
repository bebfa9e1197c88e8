"""Decode Stripe's form-encoded parameters, and refuse unknown ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["FormRefused", "check", "decode", "missing"]

_PART = re.compile(r"\[([^\]]*)\]")


class FormRefused(Exception):
    """An error answer of Stripe (https://docs.stripe.com/api/errors)."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


def missing(param: str) -> FormRefused:
    """Return the error for a missing parameter."""
    return FormRefused(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def decode(text: str) -> dict[str, Any]:
    """Decode ``a[b][0][c]=d`` to nested dicts. A list becomes a dict whose keys are the positions."""
    decoded: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *parts = [name.partition("[")[0], *_PART.findall(name)]
        place, key = decoded, first
        for part in parts:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise FormRefused(400, f"Invalid {first}", param=first)
            place, key = inner, part
        place[key] = value
    return decoded


def check(params: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> None:
    """Refuse parameters that ``known`` does not name.

    Args:
        known: the allowed parameters by name. A value is None for plain text, a mapping for a table of parameters,
            ``{"*": None}`` for a table with any names, and a list of one mapping for a list of tables.

    Raises:
        Refused: Stripe would refuse the parameters.
    """
    for name, value in params.items():
        here = f"{path}[{name}]" if path else name
        if name not in known and "*" not in known:
            raise FormRefused(400, f"Received unknown parameter: {here}", code="parameter_unknown", param=here)
        form = known.get(name, known.get("*"))
        if isinstance(value, dict) != (form is not None):
            raise FormRefused(400, f"Invalid {'string' if form is None else 'object'}: {here}", param=here)
        if isinstance(form, list):
            for position, item in value.items():
                if not isinstance(item, dict):
                    raise FormRefused(400, f"Invalid object: {here}[{position}]", param=here)
                check(item, form[0], f"{here}[{position}]")
        elif form is not None:
            check(value, form, here)
    metadata = params.get("metadata")
    if isinstance(metadata, dict) and not path:
        _check_metadata(metadata)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    # https://docs.stripe.com/metadata: 50 keys of 40 characters, values of 500
    if len(metadata) > 50 or any(len(key) > 40 or len(value) > 500 for key, value in metadata.items()):
        raise FormRefused(400, "Metadata is over its limits.", param="metadata")
