"""A check for schemathesis: the code of each error is among those that the document tells of for its status."""

from __future__ import annotations

from typing import Any

import schemathesis
from firelaunch.testing.documented import Documented

_CHECKERS: dict[int, Documented] = {}


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
