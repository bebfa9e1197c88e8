"""Images in users' messages: checked when they arrive, kept among the user's files, and read again for prompts.

A message has references to its images, which lie in the user's part of the bucket
(:class:`~firelaunch.documents.kept_files.KeptFiles`). So an erasure removes them, and an export has them. Deleting a
chat deletes its images.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..documents.kept_files import KeptFile, KeptFiles
from ..errors import BadRequest, NotFound, TooLarge
from ..llm.types import Image
from ..scope import Scope
from ..services.bundle import Services
from ..store.base import Document, Query

__all__ = [
    "MOST_IMAGES",
    "ImageReference",
    "NewImage",
    "delete_images",
    "image_file",
    "image_of_url",
    "keep_images",
    "load_images",
]

MOST_IMAGES: Final = 4
"""Images of one message at most."""

_SHOWN: Final = 8
"""Images of a chat's history that a prompt shows at most, the newest first. Each costs its tokens in every turn."""

_DATA_URL = re.compile(r"data:([a-z0-9/+.-]+);base64,([A-Za-z0-9+/]*={0,2})", re.IGNORECASE)
_SIGNATURES: Final = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
"""The types that OpenAI, Gemini and Claude all take, with the bytes that such a file begins with."""

_ID = re.compile(r"image_[0-9a-f]{48}")
_PAGE = 100

ImageReference = Mapping[str, Any]
"""What a message keeps of an image: ``id``, ``media_type``, ``bytes`` and ``name``."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image that came with a message."""

    media_type: str
    data: bytes = field(repr=False)
    name: str = ""


def image_of_url(url: str, name: str, most: int) -> NewImage | str:
    """Return the image of a ``data:`` URL, or the id of an image of a message before, whose URL ends with it.

    Args:
        most: the most bytes of an image.

    Raises:
        BadRequest: the URL is neither, or holds no PNG, JPEG or WebP image.
        TooLarge: the image has more bytes.
    """
    known = url.rpartition("/")[2]
    if _ID.fullmatch(known):
        return known
    data_url = _DATA_URL.fullmatch(url)
    if data_url is None:
        raise BadRequest("A file's url is a data: URL in Base64, as in data:image/png;base64,iVBORw0KGgo=")
    media_type = data_url[1].lower().replace("image/jpg", "image/jpeg")
    if media_type not in _SIGNATURES:
        kinds = ", ".join(_SIGNATURES)
        raise BadRequest(f"A message takes images alone ({kinds}). Put other files up as documents: POST /v1/uploads.")
    if len(data_url[2]) * 3 // 4 > most + 2:
        raise TooLarge(f"An image has at most {most:,} bytes. Send a smaller one.")
    try:
        data = b64decode(data_url[2], validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A file's url is not valid Base64.") from None
    if not _SIGNATURES[media_type].match(data):
        raise BadRequest(f"A file is no {media_type}, although its url says so.")
    if len(data) > most:
        raise TooLarge(f"An image has at most {most:,} bytes. Send a smaller one.")
    return NewImage(media_type, data, name[:200])


def keep_images(
    files: KeptFiles, chat_id: str, images: Sequence[NewImage | str], most: int
) -> tuple[ImageReference, ...]:
    """Keep a message's images among the user's files, and return the references for the message.

    An image that the chat has already is not stored again.

    Args:
        files: the user's.
        images: those that came with the message, and the ids of those that the chat has.

    Raises:
        BadRequest: there are more than :data:`MOST_IMAGES`.
        NotFound: an id is none of the user's images.
    """
    if len(images) > MOST_IMAGES:
        raise BadRequest(f"A message has at most {MOST_IMAGES} images.")
    return tuple(_keep(files, chat_id, image, most) for image in images)


def _keep(files: KeptFiles, chat_id: str, image: NewImage | str, most: int) -> ImageReference:
    if isinstance(image, str):
        file, name = files.get(image), ""
    else:
        digest = hashlib.sha256(f"{chat_id}\n{image.media_type}\n".encode() + image.data).hexdigest()[:48]
        image_id, name = f"image_{digest}", image.name
        file = files.find(image_id) or files.put(image_id, image.data, image.media_type, most=most)
    return {"id": file.id, "media_type": file.content_type, "bytes": file.bytes, "name": name}


def image_file(files: KeptFiles, image_id: str) -> KeptFile:
    """Return what there is to know about an image of the user's messages.

    Raises:
        NotFound: it is none. The app's own files are not found by this.
    """
    if not _ID.fullmatch(image_id):
        raise NotFound
    return files.get(image_id)


def load_images(files: KeptFiles, messages: Iterable[Document]) -> dict[str, tuple[Image, ...]]:
    """Return the images of ``messages`` for a prompt, by the messages' paths.

    Args:
        messages: newest first.
    """
    shown: dict[str, tuple[Image, ...]] = {}
    left = _SHOWN
    for message in messages:
        references = message.data.get("images", ())[:left]
        left -= len(references)
        images = [image for reference in references if (image := _load(files, reference)) is not None]
        if images:
            shown[message.path] = tuple(images)
    return shown


def _load(files: KeptFiles, reference: ImageReference) -> Image | None:
    try:
        with files.open(str(reference["id"])) as file:
            return Image(str(reference["media_type"]), file.read())
    except NotFound:  # the chat was deleted meanwhile
        return None


def delete_images(services: Services, user: Scope, chat_id: str) -> None:
    """Delete the images of a chat's messages. Call this before the chat is deleted."""
    after: list[Any] | None = None
    files = services.files.within(user)
    while True:
        messages = services.store.query(Query(user.messages(chat_id), limit=_PAGE, after=after))
        for message in messages:
            for reference in message.data.get("images", ()):
                files.delete(str(reference["id"]))
        if len(messages) < _PAGE:
            return
        after = [messages[-1].id]
