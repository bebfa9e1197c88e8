"""The rules of routes, whose addresses an app rarely builds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from werkzeug.routing import Rule

__all__ = ["UrlRule"]


class UrlRule(Rule):
    """A rule that compiles the code for building its address when an address is built.

    Werkzeug compiles it for each rule when an app starts, which takes two thirds of ``init_app``.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = cache(partial(super()._compile_builder, append_unknown))

        def build(rule: Rule, **values: object) -> tuple[str, str]:
            return compiled()(rule, **values)

        return build
