"""Mails, as files of the Internet's format (EML, also web pages saved as MHTML) and of Outlook's (MSG)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_binary_file, policy
from email.message import EmailMessage
from typing import Any, BinaryIO

from . import html
from .base import Draft, Extract, Outline, ParseLimits, Unreadable
from .extracts import drafts
from .omissions import Omission
from .text import paragraphs

__all__ = ["files", "outlook_files", "parse", "parse_outlook"]

_SHOWN = ("From", "To", "Cc", "Date")
_SIGNATURES = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"})
_DEPTH = 20
_MOST_PARTS = 1_000
_NAME_CHARACTERS = 120
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]+")
_LITTLE = 0.5
"""A plain text below this share of the HTML's says only that there is HTML."""


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield a mail's subject, its sender, receivers and date, its text, and the names of its attachments.

    Raises:
        Unreadable: the mail is encrypted, or nested too deeply.
    """
    yield from _drafts(_message(file))
    progress(1.0)


def files(file: BinaryIO, limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft | Omission]:
    """Yield a mail's attachments, as :mod:`.extracts` says. Errors are those of :func:`parse`."""
    return drafts(_attachments(_message(file)), limits)


def parse_outlook(
    file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]
) -> Iterator[Draft | Omission]:
    """Yield the blocks of a mail in Outlook's format, as :func:`parse` does."""
    from .outlook import message

    yield from _drafts(message(file))
    progress(1.0)


def outlook_files(
    file: BinaryIO, limits: ParseLimits, _progress: Callable[[float], None]
) -> Iterator[Draft | Omission]:
    """Yield the attachments of a mail in Outlook's format. A mail that is attached has the Internet's format."""
    from .outlook import message

    return drafts(_attachments(message(file)), limits)


def _message(file: BinaryIO) -> EmailMessage:
    try:
        return message_from_binary_file(file, _class=EmailMessage, policy=policy.default)
    except RecursionError as error:
        raise Unreadable("too_deep") from error


def _drafts(message: EmailMessage) -> Iterator[Draft | Omission]:
    parts = list(_leaves(message))
    subject = " ".join(_header(message, "Subject").split())
    outline = Outline()
    if subject:
        yield Draft(subject, "heading", None, outline.enter(0, subject))
    heads = [f"{name}: {value}" for name in _SHOWN if (value := " ".join(_header(message, name).split()))]
    yield Draft("\n".join(heads), "paragraph", None, outline.path)
    for part in parts:
        if _is_text(part):
            for draft in _text_drafts(part):
                yield replace(draft, headings=(*outline.path, *draft.headings)[:12])
    names = [_name(part) for part in parts if _is_attachment(part)]
    if names:
        yield Omission("attachments", len(names), len(names))
        yield Draft("Attachments: " + ", ".join(names), "paragraph", None, outline.path)


def _text_drafts(part: EmailMessage) -> Iterator[Draft]:
    text = _text(part)
    if part.get_content_subtype() == "html":
        return html.drafts(text.encode("utf-8", "replace"))
    found = list(paragraphs(iter([text.replace("\r\n", "\n")])))
    return iter([replace(draft, gap=draft.gap if at else None) for at, draft in enumerate(found)])


def _leaves(message: EmailMessage, depth: int = 0) -> Iterator[EmailMessage]:
    """Yield the parts of a mail that are no containers, of equal versions of a text the best one.

    Raises:
        Unreadable: the mail is encrypted, or nested too deeply.
    """
    if depth > _DEPTH:
        raise Unreadable("too_deep")
    kind = message.get_content_type()
    if kind == "multipart/encrypted" or (
        kind.endswith("pkcs7-mime") and str(message.get_param("smime-type", "")).lower() == "enveloped-data"
    ):
        raise Unreadable("encrypted", kind)
    if kind.startswith("message/") or not message.is_multipart():
        yield message
        return
    children: list[Any] = list(message.iter_parts())[:_MOST_PARTS]
    if kind == "multipart/alternative":
        children = _best(children)
    for child in children:
        yield from _leaves(child, depth + 1)


def _best(versions: list[EmailMessage]) -> list[EmailMessage]:
    """Return the plain version of a text, or the HTML one if the plain one only stands in for it; and what is neither.

    An invitation's calendar is no version of the text, although it stands among them.
    """
    plain = [part for part in versions if part.get_content_type() == "text/plain"]
    rich = [part for part in versions if part.get_content_type() == "text/html" or part.is_multipart()]
    others = [part for part in versions if part not in plain and part not in rich]
    pages = [part for version in rich for part in _leaves(version) if _is_text(part)]
    if plain and pages:
        shown = re.sub(r"<style\b.*?</style>|<[^>]*>|\s+", "", "".join(map(_text, pages)), flags=re.S | re.I)
        own = re.sub(r"\s+", "", "".join(map(_text, plain)))
        stands_in = len(own) < _LITTLE * len(shown)
        attached = [part for version in rich for part in _leaves(version) if _is_attachment(part)]
        return [*(rich if stands_in else [*plain, *attached]), *others]
    return [*(plain or rich), *others]


def _is_text(part: EmailMessage) -> bool:
    return part.get_content_type() in {"text/plain", "text/html"} and not _is_attachment(part)


def _is_attachment(part: EmailMessage) -> bool:
    """Return whether a part is a file of its own. Pictures that a text shows, and signatures, are none."""
    kind, disposition = part.get_content_type(), part.get_content_disposition()
    if kind in _SIGNATURES or kind in {"message/delivery-status", "text/rfc822-headers"}:
        return False
    if disposition == "attachment" or kind == "message/rfc822":
        return True
    if part.get("Content-ID") or part.get("Content-Location"):
        return False
    return bool(part.get_filename()) or not kind.startswith(("text/", "multipart/"))


def _attachments(message: EmailMessage) -> Iterator[Extract]:
    for part in _leaves(message):
        if not _is_attachment(part):
            continue
        if part.get_content_type().startswith("message/") and part.is_multipart():
            inner: Any = part.get_payload(0)
            yield Extract(_name(part), inner.as_bytes())
        else:
            content: Any = part.get_payload(decode=True)
            yield Extract(_name(part), content or b"")


def _name(part: EmailMessage) -> str:
    """Return a name for an attachment that has the form of a file's: from its headers, or from what it is."""
    name = part.get_filename() or ""
    kind = part.get_content_type()
    if not name and kind == "message/rfc822":
        payload: Any = part.get_payload()
        subject = _header(payload[0], "Subject") if isinstance(payload, list) and payload else ""
        name = f"{subject or 'message'}.eml"
    elif not name:
        name = {"text/calendar": "invitation.ics", "application/pdf": "attachment.pdf"}.get(kind, "attachment")
    name = " ".join(_FORBIDDEN.sub(" ", name).split()).strip(". ") or "attachment"
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 12] + name[-12:]


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name) or "")
    except Exception:
        raw: Any = dict(message.raw_items()).get(name, "")
        return str(raw)


def _text(part: EmailMessage) -> str:
    content: Any = part.get_payload(decode=True) or b""
    for charset in (part.get_content_charset("utf-8"), "utf-8"):
        try:
            return str(content.decode(charset))
        except (LookupError, UnicodeDecodeError):
            continue
    return str(content.decode("cp1252", "replace"))
