"""Pictures, and pages that are pictures: shown to a model that reads them, as JPEG files of a bounded size."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

from .base import Draft, ParseLimits, Unreadable

__all__ = ["MOST_FRAMES", "files", "jpeg", "parse"]

MOST_FRAMES = 1_000
"""Pages of a TIFF file that are read at most."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_SIDE = 2_048
"""Pixels of a picture's longer side; a page of A4 has 175 dots an inch then, and small print can be read."""

_PIXELS = 60_000_000
"""Pixels of a picture at most, which take 180 MB."""

_QUALITY = 85


def parse(_file: BinaryIO, _limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft]:
    """Raise Unreadable: a picture has no text that a program can read."""
    raise Unreadable("picture")


def files(file: BinaryIO, _limits: ParseLimits, _progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield a picture's pages as JPEG files in Base64, each with its number; of what moves, the first picture.

    Raises:
        Unreadable: the picture is damaged, or has too many pixels.
    """
    from PIL import Image, ImageSequence

    Image.MAX_IMAGE_PIXELS = _PIXELS // 2  # Pillow refuses from twice this number on
    try:
        with Image.open(file, formats=_FORMATS) as picture:
            most = MOST_FRAMES if picture.format == "TIFF" else 1
            for number, frame in enumerate(islice(ImageSequence.Iterator(picture), most), start=1):
                yield Draft(b64encode(jpeg(frame)).decode(), "code", number)
    except Image.DecompressionBombError as error:
        raise Unreadable("unpacks_too_large", str(error)) from error


def jpeg(picture: Any) -> bytes:
    """Return a picture as a JPEG file with a white ground, no larger than a model needs."""
    from PIL import Image, ImageOps

    if picture.width * picture.height > _PIXELS:
        raise Unreadable("unpacks_too_large", f"{picture.width} x {picture.height} pixels")
    picture = ImageOps.exif_transpose(picture) or picture
    if picture.mode not in {"RGB", "L"}:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    picture.thumbnail((_SIDE, _SIDE))
    out = BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
