"""Make small recordings for tests: silence as WAV and as MP3."""

from __future__ import annotations

import io
import wave

__all__ = ["mp3", "wav"]

_RATE = 8_000


def wav(seconds: float = 1.0, shade: int = 0) -> bytes:
    """Return a recording of one channel with 8,000 samples a second, each of one byte with the value ``shade``."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(_RATE)
        sound.writeframes(bytes([shade]) * round(seconds * _RATE))
    return file.getvalue()


def mp3(frames: int = 50) -> bytes:
    """Return a recording of MPEG-1 layer III frames of 128 kbit/s and 44,100 samples a second: 26.1 ms each."""
    frame = b"\xff\xfb\x90\xc4" + bytes(413)
    return frame * frames
