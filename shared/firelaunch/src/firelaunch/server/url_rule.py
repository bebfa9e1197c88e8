"""The rules of routes, whose addresses an app rarely builds."""

from __future__ import annotations

from collections.abc import Callable

from werkzeug.routing import Rule

__all__ = ["UrlRule"]


class UrlRule(Rule):
    """A rule that compiles the code for building its address when an address is built.

    Werkzeug compiles it for each rule when an app starts, which takes two thirds of ``init_app``.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = super()._compile_builder
        compiled: Callable[..., tuple[str, str]] | None = None

        def build(rule: Rule, **values: object) -> tuple[str, str]:
            nonlocal compiled
            compiled = compiled or compile_now(append_unknown)
            return compiled(rule, **values)

        return build
