"""Read text files that people edit, with any byte order mark and line ends, and explain wrong encodings."""

from __future__ import annotations

import codecs
from pathlib import Path

from .errors import SettingsError

__all__ = ["decode_text", "read_text_file"]

_UTF_16_AND_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""UTF-32's little-endian mark begins with that of UTF-16."""

_MEND = "save it as UTF-8 (in Notepad: Save as, Encoding: UTF-8)"


def read_text_file(path: Path) -> str:
    r"""Read a UTF-8 file without its byte order mark; every line ends with "\n".

    Raises:
        FileNotFoundError: the file does not exist.
        SettingsError: the file is not UTF-8. The message names the file and the fix.
    """
    return decode_text(path.read_bytes(), path).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(data: bytes, path: Path) -> str:
    """Decode a file's bytes without their byte order mark; line ends stay as they are.

    Raises:
        SettingsError: the bytes are not UTF-8. The message names ``path`` and the fix.
    """
    if data.startswith(_UTF_16_AND_32) or b"\0" in data[:4]:
        raise SettingsError(f"{path} is UTF-16 text, not UTF-8: {_MEND}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}, is not UTF-8 text: {_MEND}.") from None
