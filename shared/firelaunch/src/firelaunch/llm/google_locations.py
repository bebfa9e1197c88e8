"""The locations of Google's models: one region, a part of the world, or wherever there is capacity.

The hosts are from https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations.
"""

from __future__ import annotations

from .claude_models import is_claude
from .thinking import is_gemini_with_levels

__all__ = ["GLOBAL", "MULTI_REGIONS", "is_served_in", "vertex_host"]

GLOBAL = "global"
MULTI_REGIONS = ("eu", "us")


def vertex_host(location: str) -> str:
    """Return the host of a location: "global", "eu", "us", or a region such as "europe-west1"."""
    if location == GLOBAL:
        return "aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def is_served_in(model: str, location: str) -> bool:
    """Return whether a model answers in a location, as far as is known, as of 2026-11.

    Regions have some of Claude's models each. Gemini 3 and later answer in "global", "eu" and "us", earlier models of
    Gemini in "global" and in regions
    (https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/supported-capabilities).
    """
    if is_claude(model):
        return True
    if is_gemini_with_levels(model):
        return location == GLOBAL or location in MULTI_REGIONS
    return location not in MULTI_REGIONS
