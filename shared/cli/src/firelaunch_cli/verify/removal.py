"""Remove what a run made: only what stands in its manifest and bears its mark. It may be run again at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..deploy.gcloud import CommandFailed, Tools
from .manifest import Manifest, Resource
from .resources import KINDS, ResourceKind

__all__ = ["Left", "remove"]

_POLLS = 60
_POLL_SECONDS = 5.0
_LATE_SECONDS = 10.0
"""Seconds to wait: a resource that an interrupted command began to make may appear a little later."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Left:
    """Something in the manifest that is still there, and why."""

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.reason}"


def remove(tools: Tools, manifest: Manifest, say: Say) -> list[Left]:
    """Remove all of a run's resources, in an order that holds; each that cannot be is told, and the others go.

    Returns:
        What is left; empty where nothing is.
    """
    unsure = [resource for resource in manifest.left() if resource.state == "planned"]
    left = _round(tools, manifest, manifest.left(), say)
    late = [resource for resource in unsure if resource.state == "removed"]
    if late:
        tools.pause(_LATE_SECONDS)
        left += _round(tools, manifest, late, lambda _: None)
    return left


def _round(tools: Tools, manifest: Manifest, resources: list[Resource], say: Say) -> list[Left]:
    order = list(KINDS)
    left: list[Left] = []
    known = [resource for resource in resources if resource.kind in KINDS]
    left += [Left(each.kind, each.name, "its kind is not known") for each in resources if each.kind not in KINDS]
    for resource in sorted(known, key=lambda each: order.index(each.kind)):
        try:
            reason = _remove(tools, manifest, resource, say)
        except CommandFailed as failed:
            reason = f"{str(failed).splitlines()[-1]}; {failed.mend}"
        if reason:
            left.append(Left(resource.kind, resource.name, reason))
            say(f"left: {left[-1]}")
        else:
            manifest.set_state(resource, "removed")
    return left


def _remove(tools: Tools, manifest: Manifest, resource: Resource, say: Say) -> str:
    """Remove one; why it is left, or nothing where it is gone."""
    kind, name = KINDS[resource.kind], resource.name
    if not kind.owns(manifest, name):
        return "the manifest names it, and no run gives such a name; it is not touched"
    live = kind.look(tools, manifest, name)
    if live is None:
        return ""
    if not kind.marked(manifest, name, live):
        return f"it does not bear {kind.mark}; it is not touched"
    try:
        kind.delete(tools, manifest, name)
    except CommandFailed as failed:
        if kind.look(tools, manifest, name) is not None:
            raise failed from None
    say(f"removed: {kind.title} {name}")
    return _until_gone(tools, manifest, kind, name) if kind.slow else ""


def _until_gone(tools: Tools, manifest: Manifest, kind: ResourceKind, name: str) -> str:
    for _ in range(_POLLS):
        if kind.look(tools, manifest, name) is None:
            return ""
        tools.pause(_POLL_SECONDS)
    return "its removal was begun, and Google has not ended it yet; run the same command again"
