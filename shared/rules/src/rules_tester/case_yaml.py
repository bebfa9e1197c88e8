"""YAML that knows its lines and Firestore's own values, and refuses a key that is given twice."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from .values import SERVER_TIME, LatLng, Reference

__all__ = ["Lines", "read"]

_ALONE = "!server_time"
_MERGED = "tag:yaml.org,2002:merge"
_AGO = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Lines(dict[Any, Any]):
    """A map with the line that it begins in, and those of its keys."""

    line: int = 0
    of: dict[Any, int]


def read(text: str) -> Any:
    """The document; its maps are :class:`Lines`.

    Raises:
        yaml.YAMLError: it is none, or a map has a key twice, or a value is not of its tag; the message has the line.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader


class _Loader(yaml.SafeLoader):
    def scan_tag(self) -> yaml.TagToken:
        """As the library's, which asks for a space behind a tag even where nothing can follow, as in ``{at: !x}``."""
        start = self.get_mark()
        if self.prefix(len(_ALONE)) != _ALONE or self.peek(len(_ALONE)) not in ",]}":
            return super().scan_tag()
        self.forward(len(_ALONE))
        return yaml.TagToken(("!", _ALONE[1:]), start, self.get_mark())


def _map(loader: _Loader, node: yaml.MappingNode) -> Iterator[Lines]:
    found = Lines()
    found.line, found.of = node.start_mark.line + 1, {}
    yield found
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGED:
            if key.value in seen:
                raise _problem(key, f"{key.value!r} is given twice in this map; leave one out, or make a list of them")
            seen.add(key.value)
            found.of[key.value] = key.start_mark.line + 1
    found.update(loader.construct_mapping(node, deep=True))


def _tag(of: Callable[[Any], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    def construct(loader: _Loader, node: yaml.Node) -> Any:
        try:
            given = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else node.value
            return of(given)
        except (ValueError, TypeError) as error:
            raise _problem(node, f"{node.tag}: {error}") from None

    return construct


def _problem(node: yaml.Node, message: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _reference(path: str) -> Reference:
    if len(path.strip("/").split("/")) % 2:
        raise ValueError(f"{path!r} is no document's path")
    return Reference(path.strip("/"))


def _latlng(pair: Any) -> LatLng:
    latitude, longitude = (float(number) for number in pair)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError("it takes [latitude, longitude] in degrees")
    return LatLng(latitude, longitude)


def _from_now(text: str) -> datetime:
    found = _AGO.fullmatch(text)
    if text and not found:
        raise ValueError(f"{text!r} is no span of time; write +10m, -1h, +30s or -2d")
    now = datetime.now(UTC)
    if not found:
        return now
    sign, number, unit = found.groups()
    return now + timedelta(**{_UNITS[unit]: float(sign + number)})


_Loader.add_constructor("tag:yaml.org,2002:map", _map)
for _name, _of in {
    _ALONE: lambda _: SERVER_TIME,
    "!ref": _reference,
    "!bytes": lambda text: base64.b64decode(text, validate=True),
    "!latlng": _latlng,
    "!now": _from_now,
}.items():
    _Loader.add_constructor(_name, _tag(_of))
