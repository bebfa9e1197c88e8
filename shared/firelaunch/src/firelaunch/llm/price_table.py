"""The price table: genai-prices, imported without what it needs for updates over the network alone."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from .types import TokenCounts

__all__ = ["FlatPrice", "flat_price", "table_cost"]

_HTTP = "httpx2"


class FlatPrice(NamedTuple):
    """Dollars per million tokens, or micro-dollars per token, that do not depend on how many they are."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal

    def cost(self, tokens: TokenCounts) -> Decimal:
        """Micro-dollars for ``tokens``, not rounded."""
        plain = tokens.input - tokens.cached_input - tokens.cache_write
        return (
            plain * self.input
            + tokens.cached_input * self.cached_input
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
        )


def flat_price(provider: str, model: str) -> FlatPrice | None:
    """The model's price today where it has one price for each kind of token; None where it has tiers.

    Raises:
        LookupError: the table does not know the model.
    """
    return _flat_price(provider, model, datetime.now(UTC).date())


@cache
def _flat_price(provider: str, model: str, _day: date) -> FlatPrice | None:
    # Prices change at a date that the table may know, and processes outlive it.
    prices = _calculation(provider, model, TokenCounts(input=1, output=1)).model_price
    asked = prices.input_mtok
    found = (asked, prices.cache_read_mtok or asked, prices.output_mtok, prices.cache_write_mtok or asked)
    return FlatPrice(*found) if all(isinstance(price, Decimal) for price in found) else None


def table_cost(provider: str, model: str, tokens: TokenCounts) -> Decimal:
    """Dollars for ``tokens``, tiers included.

    Raises:
        LookupError: the table does not know the model.
    """
    total: Decimal = _calculation(provider, model, tokens).total_price
    return total


def _calculation(provider: str, model: str, tokens: TokenCounts) -> Any:
    prices = _library()
    usage = prices.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached_input,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    return prices.calc_price(usage, model, provider_id=provider)


class _Unloaded(ModuleType):
    """Stands for a module that is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@cache
def _library() -> Any:
    # The package imports an HTTP client to fetch newer tables with, which is never asked of it here, and which takes
    # longer to import than all the rest. A stand-in is there while it does; whoever imports the client later gets it.
    unloaded = None if _HTTP in sys.modules else sys.modules.setdefault(_HTTP, _Unloaded(_HTTP))
    import genai_prices

    if unloaded is not None:
        del sys.modules[_HTTP]
    return genai_prices
