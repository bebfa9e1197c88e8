"""Outlook's mails (MSG, [MS-OXMSG]): properties in an OLE container, turned into a mail of the Internet's format."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, BinaryIO

from .base import Unreadable

__all__ = ["message"]

_SUBJECT, _BODY, _HTML, _RTF = "0037", "1000", "1013", "1009"
_SENDER, _SENDER_ADDRESS, _SENDER_SMTP = "0C1A", "0C1F", "5D01"
_TO, _CC, _HEADERS = "0E04", "0E03", "007D"
_FILE_DATA, _LONG_NAME, _SHORT_NAME, _DISPLAY_NAME, _CONTENT_ID = "3701", "3707", "3704", "3001", "3712"
_TIMES = (0x0039, 0x0E06)
"""Submission and delivery."""
_CODE_PAGES = (0x3FDE, 0x3FFD)
_DEPTH = 5
_MOST_ATTACHMENTS = 500
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def message(file: BinaryIO) -> EmailMessage:
    """Return a mail with its headers, its text and its attachments.

    Raises:
        Unreadable: the file is damaged, or its mails are nested too deeply.
    """
    import olefile

    try:
        with olefile.OleFileIO(file) as container:
            return _Storage(container, []).message(0)
    except OSError as error:
        raise Unreadable("damaged", str(error)) from error


class _Storage:
    """One storage of the container: a mail, or an attachment."""

    def __init__(self, container: Any, path: list[str]) -> None:
        self._container = container
        self._path = path
        self._numbers: dict[int, bytes] = {}

    def message(self, depth: int) -> EmailMessage:
        """Return the mail in this storage."""
        if depth > _DEPTH:
            raise Unreadable("too_deep")
        self._read_numbers(24 if self._path else 32)
        mail = EmailMessage(policy=policy.default.clone(utf8=True))
        for name, value in self._headers().items():
            if value.strip():
                mail[name] = " ".join(value.split())
        self._set_body(mail)
        for name in self._folders("__attach_version1.0_"):
            _Storage(self._container, [*self._path, name]).attach_to(mail, depth)
        return mail

    def _headers(self) -> dict[str, str]:
        sent = message_from_string(self._text(_HEADERS), policy=policy.compat32)
        address = self._text(_SENDER_SMTP) or self._text(_SENDER_ADDRESS)
        sender = self._text(_SENDER)
        if "@" in address and address != sender:
            sender = f"{sender} <{address}>".strip()
        return {
            "Subject": self._text(_SUBJECT),
            "From": sender or str(sent.get("From", "")),
            "To": self._text(_TO).rstrip("\x00") or str(sent.get("To", "")),
            "Cc": self._text(_CC).rstrip("\x00"),
            "Date": self._date() or str(sent.get("Date", "")),
        }

    def _date(self) -> str:
        for number in _TIMES:
            value = self._numbers.get(number)
            ticks = int.from_bytes(value, "little") if value else 0
            if 0 < ticks < 2**62:
                return format_datetime(_EPOCH + timedelta(microseconds=ticks // 10))
        return ""

    def _set_body(self, mail: EmailMessage) -> None:
        plain, page = self._text(_BODY), self._bytes(_HTML)
        if plain.strip():
            mail.set_content(plain)
        if page:
            source = page.decode(self._code_page(), "replace")
            if plain.strip():
                mail.add_alternative(source, subtype="html")
            else:
                mail.set_content(source, subtype="html")
        elif not plain.strip() and (packed := self._bytes(_RTF)):
            from .rtf import text_of, unpacked

            mail.set_content(text_of(unpacked(packed)))

    def attach_to(self, mail: EmailMessage, depth: int) -> None:
        """Add the attachment in this storage to a mail."""
        name = self._text(_LONG_NAME) or self._text(_SHORT_NAME) or self._text(_DISPLAY_NAME)
        inner = [*self._path, f"__substg1.0_{_FILE_DATA}000D"]
        if self._container.exists([*inner, "__properties_version1.0"]):
            mail.add_attachment(_Storage(self._container, inner).message(depth + 1))
            return
        data = self._bytes(_FILE_DATA)
        if not data:
            return
        mail.add_attachment(data, "application", "octet-stream", filename=" ".join(name.split()) or "attachment")
        if content_id := self._text(_CONTENT_ID):
            part: Any = mail.get_payload(-1)
            shown = f"cid:{content_id}" in self._bytes(_HTML).decode("latin-1")
            if shown:  # a picture in the text
                part.replace_header("Content-Disposition", "inline")
                part["Content-ID"] = f"<{' '.join(content_id.split())}>"

    def _folders(self, beginning: str) -> list[str]:
        depth = len(self._path)
        names = {
            entry[depth]
            for entry in self._container.listdir(streams=True, storages=True)
            if entry[:depth] == self._path and len(entry) > depth and entry[depth].startswith(beginning)
        }
        return sorted(names)[:_MOST_ATTACHMENTS]

    def _read_numbers(self, header: int) -> None:
        """Read the properties of fixed length, 16 bytes each, after a header ([MS-OXMSG] 2.4)."""
        data = self._stream("__properties_version1.0")[header:]
        for at in range(0, len(data) - 15, 16):
            tag = struct.unpack_from("<I", data, at)[0]
            self._numbers[tag >> 16] = data[at + 8 : at + 16]

    def _code_page(self) -> str:
        for number in _CODE_PAGES:
            page = int.from_bytes(self._numbers.get(number, b"")[:4], "little")
            if page:
                name = {65001: "utf-8", 20127: "ascii", 28591: "latin-1"}.get(page, f"cp{page}")
                try:
                    "".encode(name)
                except LookupError:
                    continue
                return name
        return "cp1252"

    def _text(self, number: str) -> str:
        wide = self._stream(f"__substg1.0_{number}001F")
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\x00")
        return self._stream(f"__substg1.0_{number}001E").decode(self._code_page(), "replace").rstrip("\x00")

    def _bytes(self, number: str) -> bytes:
        return self._stream(f"__substg1.0_{number}0102") or self._text(number).encode(self._code_page(), "replace")

    def _stream(self, name: str) -> bytes:
        path = [*self._path, name]
        if not self._container.exists(path):
            return b""
        with self._container.openstream(path) as stream:
            data: bytes = stream.read()
            return data
