"""A check for schemathesis: the code of each error is among those that the document tells of for its status.

And hooks that keep schemathesis from giving up on a route, and from forms that say something else than it thinks.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from firelaunch.testing.documented import Documented

_CHECKERS: dict[int, Documented] = {}
_NO_TEXT = bool | int | float | None
_SENDABLE = re.compile(r"(?:\S[^\r\n]*)?")


@schemathesis.hook
def before_call(_ctx: Any, case: Any, _kwargs: Any) -> None:
    """Leave out headers that no client can send.

    schemathesis fills them with what other requests were answered, which may have several lines.
    """
    for name, value in list((case.headers or {}).items()):
        if isinstance(value, str) and not _SENDABLE.fullmatch(value):
            del case.headers[name]


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Leave out forms with a value that is no text: a form carries it as text, so that an app gets ``"false"``."""
    is_form = all(each.media_type == "multipart/form-data" for each in context.operation.body)
    return not (is_form and isinstance(body, dict) and any(isinstance(each, _NO_TEXT) for each in body.values()))


@schemathesis.check
def answer_is_documented(_ctx: Any, response: Any, case: Any) -> None:
    """Fail where an answer is not as the document says."""
    schema = case.operation.schema
    checker = _CHECKERS.setdefault(id(schema), Documented(schema.raw_schema))
    media_type = next(iter(response.headers.get("content-type", [])), "").partition(";")[0]
    method = case.operation.method.upper()
    if response.request.method != method:  # another one, which schemathesis tries beside those of the document
        return
    problem = checker.problem(method, case.operation.path, response.status_code, media_type, response.content)
    assert problem is None, problem
