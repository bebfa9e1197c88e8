"""The most seconds that a recording can last, from its own bytes, for the tokens that a model counts for it.

A recording's headers come from whoever sends it. So a length is derived from the number of bytes and from the speed at
which they are played, never from a length that a header tells.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["seconds_bound"]

_PCM = {1, 3, 6, 7, 0xFFFE}
"""WAV's formats of a fixed number of bytes a second: PCM, floating point, A-law, mu-law, and their extended form."""

_RATES = range(4_000, 400_000)
"""Samples a second."""

_SLOWEST: Final = 1_000
"""Bytes a second of MP3's lowest bit rate, 8 kbit/s."""

_BIT_RATES: Final = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by MPEG-1 or later, and by layer (ISO/IEC 11172-3 and 13818-3)."""

_SAMPLE_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples a second, by the header's two bits of the version: MPEG-1, -2 and -2.5."""


def seconds_bound(media_type: str, data: bytes) -> float | None:
    """Return the most seconds that a recording lasts; None if it is no recording of ``media_type``.

    Args:
        media_type: "audio/wav" or "audio/mpeg".
    """
    return _wav(data) if media_type == "audio/wav" else _mp3(data)


def _wav(data: bytes) -> float | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, speed, content = 12, None, False
    while at + 8 <= len(data) and not content:
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            if speed is not None or size < 16 or at + 24 > len(data):
                return None
            speed = _bytes_a_second(data, at + 8)
            if speed is None:
                return None
        content = name == b"data"
        at += 8 + size + size % 2
    # All bytes count: a header may tell any length of the content, and recorders that stream tell none.
    return len(data) / speed if speed is not None and content else None


def _bytes_a_second(data: bytes, at: int) -> int | None:
    form, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", data, at)
    fits = form in _PCM and 1 <= channels <= 8 and rate in _RATES and bits in {8, 16, 24, 32, 64}
    return rate * frame if fits and frame == channels * bits // 8 else None


def _mp3(data: bytes) -> float | None:
    at = _after_tag(data)
    seconds, frames = 0.0, 0
    while at + 4 <= len(data):
        frame = _frame(data[at : at + 4])
        if frame is None:
            following = data.find(b"\xff", at + 1)
            following = len(data) if following < 0 else following
            # Whatever a decoder finds in there, it plays it no slower than this.
            seconds += (following - at) / _SLOWEST
            at = following
            continue
        size, lasts = frame
        seconds, frames, at = seconds + lasts, frames + 1, at + size
    return seconds if frames else None


def _after_tag(data: bytes) -> int:
    """Return where the first frame may begin: after an ID3v2 tag, if there is one."""
    if data[:3] != b"ID3" or len(data) < 10 or any(byte & 0x80 for byte in data[6:10]):
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte
    return 10 + size


def _frame(head: bytes) -> tuple[int, float] | None:
    """Return the bytes and the seconds of the frame with this header; None if it is no header."""
    word = int.from_bytes(head, "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    rate, frequency, padding = word >> 12 & 15, word >> 10 & 3, word >> 9 & 1
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or rate in {0, 15} or frequency == 3:
        return None
    samples_a_second = _SAMPLE_RATES[version][frequency]
    bits = _BIT_RATES[version == 3, layer][rate - 1] * 1_000
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1_152
    unit = 4 if layer == 1 else 1
    size = (samples // 8 // unit * bits // samples_a_second + padding) * unit
    return (size, samples / samples_a_second) if size > 4 else None
