"""Tell whether the rules compiler takes a regular expression, by Python's own and the known differences.

The compiler compiles the patterns that are written out, with RE2 for Java (https://github.com/google/re2/wiki/Syntax),
after a check of its own that parentheses come in pairs. What it refuses was asked of the emulator.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator

__all__ = ["is_pattern", "unquoted"]

_MOST_REPEATED = 1000
"""Most repetitions that RE2 takes."""
_CLASS_NAMES = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit"
_CLASSES = frozenset(f"[:{negated}{name}:]" for negated in ("", "^") for name in _CLASS_NAMES.split())
_PROPERTY_NAMES = """
    Any C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs
    Arabic Armenian Avestan Balinese Bamum Batak Bengali Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal
    Carian Cham Cherokee Common Coptic Cuneiform Cypriot Cyrillic Deseret Devanagari Egyptian_Hieroglyphs Ethiopic
    Georgian Glagolitic Gothic Greek Gujarati Gurmukhi Han Hangul Hanunoo Hebrew Hiragana Imperial_Aramaic Inherited
    Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khmer Lao Latin
    Lepcha Limbu Linear_B Lisu Lycian Lydian Malayalam Mandaic Meetei_Mayek Mongolian Myanmar New_Tai_Lue Nko Ogham
    Ol_Chiki Old_Italic Old_Persian Old_South_Arabian Old_Turkic Oriya Osmanya Phags_Pa Phoenician Rejang Runic
    Samaritan Saurashtra Shavian Sinhala Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Tamil
    Telugu Thaana Thai Tibetan Tifinagh Ugaritic Vai Yi
"""
"""The general categories and scripts of Unicode 6.0, which RE2 for Java has."""

_PROPERTIES = frozenset(_PROPERTY_NAMES.split())
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|(.))", re.DOTALL)
_PROPERTY = r"\\[pP](?:\{\^?(?P<long>\w+)\}|(?P<short>.))"
_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)"
    rf"|(?P<property>{_PROPERTY})"
    r"|\\x\{(?P<point>[0-9A-Fa-f]+)\}"
    r"|(?P<place>\^|\$|\\[bBA])"
    r"|\\(?P<octal>[1-7][0-7]{1,2})"
    r"|(?P<escape>\\.)"
    r"|\(\?(?:[imsU]*(?:-[imsU]+)?(?P<flags>[:)])|P?<(?P<name>[A-Za-z0-9_]+)>)"
    r"|(?P<unknown>\(\?)"
    r"|(?P<quantifier>[*+?]|\{(?P<least>\d+)(?:,(?P<most>\d*))?\})"
    r"|(?P<brace>\{)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_KINDS = (
    "quoted",
    "property",
    "point",
    "octal",
    "place",
    "escape",
    "flags",
    "name",
    "unknown",
    "quantifier",
    "brace",
    "other",
)

_MEMBER = re.compile(
    rf"(?P<property>{_PROPERTY})|\\x\{{(?P<point>[0-9A-Fa-f]+)\}}|\\(?P<octal>[1-7][0-7]{{1,2}})|(?P<set>\\[dwsDWS])|(?P<other>\\.|.)",
    re.DOTALL,
)
"""One member of a class in brackets."""


_NO_MEMBERS = frozenset(f"\\{each}" for each in "b123456789")
"""Escapes that Python alone takes in brackets."""


class _Refused(Exception):
    """The compiler refuses the pattern."""


def is_pattern(text: str) -> bool:
    """Return whether the compiler takes ``text``."""
    try:
        if not _in_pairs(text):
            return False
        python = "".join(_as_python(text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(python)
    except (_Refused, re.error, OverflowError):
        return False
    return True


def unquoted(literal: str) -> str:
    """Return the value of a string as rules write it, with its quotes."""
    return _ESCAPE.sub(_value, literal[1:-1])


def _value(escape: re.Match[str]) -> str:
    four, two, octal, other = escape.groups()
    if other is not None:
        return _ESCAPES.get(other, other)
    return chr(int(octal, 8) if octal else int(four or two, 16))


def _in_pairs(text: str) -> bool:
    """Return whether the parentheses without a backslash are pairs. The compiler counts those in brackets, too."""
    depth = 0
    for character in re.sub(r"\\.", "", text, flags=re.DOTALL):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def _as_python(text: str) -> Iterator[str]:
    """Yield the parts of ``text`` as Python's expressions have them, as far as that makes a difference here.

    Raises:
        _Refused: the compiler takes no such part.
    """
    at, before = 0, ""
    while at < len(text):
        if text[at] == "[":
            at, part = _class_as_python(text, at)
            kind = "class"
        else:
            token = _TOKEN.match(text, at)
            assert token is not None  # noqa: S101 - the last alternative takes any character
            kind = next(name for name in _KINDS if token[name] is not None)
            if kind == "quantifier":
                _check_quantifier(token, before)
            part, at = _part(kind, token, before), token.end()
        yield part
        before = kind


def _part(kind: str, token: re.Match[str], before: str) -> str:
    match kind:
        case "quoted":
            return re.escape(token["quoted"])
        case "property":
            return _checked_property(token)
        case "point":
            return _character(int(token["point"], 16))
        case "octal":
            return _character(int(token["octal"], 8))
        case "place":
            return "(?:)"
        case "flags":
            # Flags stand between what they are written between, but a repetition after one is no repeated repetition.
            return "(?:" if token["flags"] == ":" else "(?:)" if before == "quantifier" else ""
        case "name":
            return f"(?P<n{token['name']}>"  # Python's names begin with a letter
        case "unknown":
            raise _Refused
        case "brace":
            return "\\{"
    return _ESCAPES_OUTSIDE.get(token[0], token[0])


_ESCAPES_OUTSIDE = {"\\z": "\\Z", **{f"\\{each}": "(" for each in "123456789ZuU"}}
"""RE2's end of the text; and what Python alone has, as something that neither takes."""


def _check_quantifier(token: re.Match[str], before: str) -> None:
    """Check what Python does not: a brace that counts as itself is not repeated, and nothing is possessive.

    Raises:
        _Refused: this is so.
    """
    if before == "brace" or (before == "quantifier" and token[0] == "+"):
        raise _Refused
    if any(int(number) > _MOST_REPEATED for number in (token["least"], token["most"]) if number):
        raise _Refused


def _checked_property(found: re.Match[str]) -> str:
    if (found["long"] or found["short"]) not in _PROPERTIES:
        raise _Refused
    return "\\w"


def _character(value: int) -> str:
    if value > sys.maxunicode:
        raise _Refused
    return re.escape(chr(value))


def _class_as_python(text: str, start: int) -> tuple[int, str]:
    """Return where the class in brackets that begins at ``start`` ends, and the class as Python has it.

    Raises:
        _Refused: it does not end, or has a name that RE2 does not know.
    """
    opening = re.compile(r"\[\^?\]?").match(text, start)
    assert opening is not None  # noqa: S101 - a bracket stands there
    at, parts = opening.end(), [opening[0]]
    while at < len(text) and text[at] != "]":
        at, part = _member_as_python(text, at)
        parts.append(part)
    if at == len(text):
        raise _Refused
    return at + 1, "".join([*parts, "]"])


def _member_as_python(text: str, at: int) -> tuple[int, str]:
    end = text.find(":]", at + 1) if text.startswith("[:", at) else -1
    if end >= 0:
        if text[at : end + 2] not in _CLASSES:
            raise _Refused
        return _set_as_python(text, end + 2, "\\w")
    member = _MEMBER.match(text, at)
    assert member is not None  # noqa: S101 - the last alternative takes any character
    if member["property"] is not None:
        return _set_as_python(text, member.end(), _checked_property(member))
    if member["set"] is not None:
        return _set_as_python(text, member.end(), member[0])
    if member["point"] is not None:
        return member.end(), _character(int(member["point"], 16))
    if member["octal"] is not None:
        return member.end(), _character(int(member["octal"], 8))
    if member[0] in _NO_MEMBERS:
        raise _Refused
    return member.end(), member[0]


def _set_as_python(text: str, end: int, part: str) -> tuple[int, str]:
    """After a set of characters a hyphen is itself in RE2, where Python expects the end of a range."""
    return (end + 1, f"{part}\\-") if text.startswith("-", end) else (end, part)
