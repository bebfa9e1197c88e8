"""Read and write YAML with Firestore's values. Maps know their lines, and have no key twice."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from typing import Any

import yaml

from .values import DELETE_FIELD, SERVER_TIME, FromNow, LatLng, ReferenceValue, Transform

__all__ = ["Lines", "read", "written"]

_ALONE = ("!server_time", "!delete")
_MERGED = "tag:yaml.org,2002:merge"
_AGO = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Lines(dict[Any, Any]):
    """A map with the line on which it begins, and the lines of its keys."""

    line: int = 0
    of: dict[Any, int]


def read(text: str) -> Any:
    """Parse a document. Its maps are :class:`Lines`.

    Raises:
        yaml.YAMLError: the text is not YAML, a map has a duplicate key, or a value does not fit its tag. The message
            has the line.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader


class _Loader(yaml.SafeLoader):
    def scan_tag(self) -> yaml.TagToken:
        """Scan a tag, also one right before a bracket, as in ``{at: !x}``, where the library requires a space."""
        start = self.get_mark()
        tag = next((tag for tag in _ALONE if self.prefix(len(tag)) == tag and self.peek(len(tag)) in ",]}"), None)
        if tag is None:
            return super().scan_tag()
        self.forward(len(tag))
        return yaml.TagToken(("!", tag[1:]), start, self.get_mark())


def _map(loader: _Loader, node: yaml.MappingNode) -> Iterator[Lines]:
    lines = Lines()
    lines.line, lines.of = node.start_mark.line + 1, {}
    yield lines
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGED:
            if key.value in seen:
                raise _problem(key, f"{key.value!r} is given twice in this map; leave one out, or make a list of them")
            seen.add(key.value)
            lines.of[key.value] = key.start_mark.line + 1
    lines.update(loader.construct_mapping(node, deep=True))


def _tag(of: Callable[[Any], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    def construct_value(loader: _Loader, node: yaml.Node) -> Any:
        try:
            argument = loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value
            return of(argument)
        except (ValueError, TypeError) as error:
            raise _problem(node, f"{node.tag}: {error}") from None

    return construct_value


def _problem(node: yaml.Node, message: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _reference(path: str) -> ReferenceValue:
    if len(path.strip("/").split("/")) % 2:
        raise ValueError(f"{path!r} is no document's path")
    return ReferenceValue(path.strip("/"))


def _latlng(pair: Any) -> LatLng:
    latitude, longitude = (float(number) for number in pair)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError("it takes [latitude, longitude] in degrees")
    return LatLng(latitude, longitude)


def _from_now(text: str) -> FromNow:
    match = _AGO.fullmatch(text)
    if text and not match:
        raise ValueError(f"{text!r} is no span of time; write +10m, -1h, +30s or -2d")
    moment = FromNow.now(UTC)
    if match:
        sign, number, unit = match.groups()
        moment += timedelta(**{_UNITS[unit]: float(sign + number)})
    moment.written = f"!now {text}".strip()
    return moment


def _increment(text: str) -> Transform:
    number = yaml.safe_load(text)
    if type(number) not in {int, float}:
        raise ValueError(f"{text!r} is no number")
    return Transform("increment", number)


def _elements(kind: str) -> Callable[[Any], Transform]:
    def transform(items: Any) -> Transform:
        if not isinstance(items, list):
            raise ValueError("it takes a list, as in [a, b]")
        return Transform(kind, items)

    return transform


_Loader.add_constructor("tag:yaml.org,2002:map", _map)
for _name, _of in {
    "!server_time": lambda _: SERVER_TIME,
    "!delete": lambda _: DELETE_FIELD,
    "!increment": _increment,
    "!array_union": _elements("array_union"),
    "!array_remove": _elements("array_remove"),
    "!ref": _reference,
    "!bytes": lambda text: base64.b64decode(text, validate=True),
    "!latlng": _latlng,
    "!now": _from_now,
}.items():
    _Loader.add_constructor(_name, _tag(_of))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def written(item: Any) -> str:
    """Return ``item`` as a line of YAML, as :func:`read` reads it."""
    text: str = yaml.dump(item, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=1_000_000)
    return text.strip()


def _transform_node(dumper: _Dumper, item: Transform) -> yaml.Node:
    if isinstance(item.operand, list):
        return dumper.represent_sequence(f"!{item.kind}", item.operand, flow_style=True)
    return dumper.represent_scalar(f"!{item.kind}", "" if item.operand is None else str(item.operand))


_Dumper.add_representer(Lines, lambda dumper, item: dumper.represent_dict(dict(item)))
_Dumper.add_representer(Transform, _transform_node)
_Dumper.add_representer(
    FromNow, lambda dumper, item: dumper.represent_scalar("!now", item.written.removeprefix("!now").strip())
)
_Dumper.add_representer(ReferenceValue, lambda dumper, item: dumper.represent_scalar("!ref", str(item)))
_Dumper.add_representer(bytes, lambda dumper, item: dumper.represent_scalar("!bytes", base64.b64encode(item).decode()))
_Dumper.add_representer(LatLng, lambda dumper, item: dumper.represent_sequence("!latlng", list(item), flow_style=True))
