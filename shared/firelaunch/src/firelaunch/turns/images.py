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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..documents.kept_files import KeptFile, KeptFiles
from ..errors import BadRequest, NotFound, NoUploadRoom, TooLarge
from ..llm.types import Image
from ..scope import Scope
from ..services.bundle import Services
from ..slots import Room
from ..store.base import Document, Query

__all__ = [
    "MOST_IMAGES",
    "NO_IMAGES",
    "ImageReference",
    "ImageRoom",
    "MessageImages",
    "NewImage",
    "delete_images",
    "discard_images",
    "image_file",
    "images_of_urls",
    "load_images",
    "store_images",
]

MOST_IMAGES: Final = 4
"""Images of one message at most."""

_SHOWN: Final = 8
"""Images that a prompt shows at most, the newest first. Those of the history cost their tokens in every turn."""

_ROOM: Final = 32_000_000
"""Bytes of images in memory at a time. With their Base64 and the requests to the provider they take four times as much,
beside the app's 100 MB and others' bodies; the smallest instance that a deploy makes has 512 MiB."""

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
    """An image that came with a message, and is not stored yet."""

    image: Image
    reference: ImageReference


@dataclass(frozen=True, slots=True)
class MessageImages:
    """The images of a message: references to all of them, and those that are new."""

    references: tuple[ImageReference, ...] = ()
    new: tuple[NewImage, ...] = ()


NO_IMAGES: Final = MessageImages()


class ImageRoom:
    """The memory of this process for images. Images take it until they are gone: as long as their turns run."""

    def __init__(self, most: int = _ROOM) -> None:
        self._room = Room(most, _no_room)

    def image(self, media_type: str, size: int, read: Callable[[], bytes]) -> Image:
        """Return an image with what ``read`` returns.

        Raises:
            NoUploadRoom: other images have the memory at the moment.
        """
        return self._room.made(size, lambda: Image(media_type, read()))


def _no_room() -> NoUploadRoom:
    return NoUploadRoom("Too many images are being looked at just now. Try again.", retry_after=2)


def images_of_urls(
    files: KeptFiles, room: ImageRoom, chat_id: str, urls: Sequence[tuple[str, str]], most: int
) -> MessageImages:
    """Return the images of a message: new ones, and references to those that the chat has already. Nothing is stored.

    Args:
        files: the user's.
        urls: ``data:`` URLs, or URLs that end with the id of an image of the chat; and the images' names.
        most: the most bytes of an image.

    Raises:
        BadRequest: there are too many, or a URL is neither, or holds no PNG, JPEG or WebP image.
        TooLarge: an image has more bytes.
        NotFound: the chat has no such image.
        NoUploadRoom: other images have the memory at the moment.
    """
    if len(urls) > MOST_IMAGES:
        raise BadRequest(f"A message has at most {MOST_IMAGES} images.")
    images = [_image_of(files, room, chat_id, url, name, most) for url, name in urls]
    new = tuple(image for image in images if isinstance(image, NewImage))
    return MessageImages(tuple(i.reference if isinstance(i, NewImage) else i for i in images), new)


def _image_of(
    files: KeptFiles, room: ImageRoom, chat_id: str, url: str, name: str, most: int
) -> NewImage | ImageReference:
    known = url.rpartition("/")[2]
    if _ID.fullmatch(known):
        file = image_file(files, chat_id, known)
        return {"id": file.id, "media_type": file.content_type, "bytes": file.bytes, "name": name[:200]}
    data_url = _DATA_URL.fullmatch(url)
    if data_url is None:
        raise BadRequest("A file's url is a data: URL in Base64, as in data:image/png;base64,iVBORw0KGgo=")
    media_type = data_url[1].lower().replace("image/jpg", "image/jpeg")
    if media_type not in _SIGNATURES:
        kinds = ", ".join(_SIGNATURES)
        raise BadRequest(f"A message takes images alone ({kinds}). Put other files up as documents: POST /v1/uploads.")
    size = len(data_url[2]) * 3 // 4
    if size > most + 2:
        raise TooLarge(f"An image has at most {most:,} bytes. Send a smaller one.")
    image = room.image(media_type, size, lambda: _decoded(data_url[2]))
    if not _SIGNATURES[media_type].match(image.data):
        raise BadRequest(f"A file is no {media_type}, although its url says so.")
    if len(image.data) > most:
        raise TooLarge(f"An image has at most {most:,} bytes. Send a smaller one.")
    digest = hashlib.sha256(media_type.encode() + b"\n" + image.data).hexdigest()
    image_id = f"image_{_chat_key(chat_id)}{digest[:32]}"
    reference = {"id": image_id, "media_type": media_type, "bytes": len(image.data), "name": name[:200]}
    return NewImage(image, reference)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A file's url is not valid Base64.") from None


def _chat_key(chat_id: str) -> str:
    """Return the part of an image's id that says which chat it belongs to."""
    return hashlib.sha256(chat_id.encode()).hexdigest()[:16]


def store_images(files: KeptFiles, images: Sequence[NewImage], most: int) -> None:
    """Store new images among the user's files. One that the chat has already is not stored again."""
    for new in images:
        image_id = str(new.reference["id"])
        if files.find(image_id) is None:
            files.put(image_id, new.image.data, new.image.media_type, most=most)


def image_file(files: KeptFiles, chat_id: str, image_id: str) -> KeptFile:
    """Return what there is to know about an image of a chat's messages.

    Raises:
        NotFound: it is none. Images of other chats, and the app's own files, are not found by this.
    """
    if not _ID.fullmatch(image_id) or not image_id.startswith(f"image_{_chat_key(chat_id)}"):
        raise NotFound
    return files.get(image_id)


def load_images(
    files: KeptFiles,
    room: ImageRoom,
    asked: Sequence[ImageReference],
    new: Sequence[NewImage],
    history: Iterable[Document],
) -> tuple[tuple[Image, ...], dict[str, tuple[Image, ...]]]:
    """Return the images that the message refers to, and those of the history by their messages' paths.

    Of the history, images are left out that are many messages ago, or for which there is no memory at the moment.

    Args:
        new: those of the message that are not stored yet.
        history: newest first.

    Raises:
        NoUploadRoom: there is no memory for the message's own images at the moment.
    """
    at_hand = {each.reference["id"]: each.image for each in new}
    found = [at_hand.get(reference["id"]) or _load(files, room, reference) for reference in asked]
    own = tuple(image for image in found if image is not None)
    shown: dict[str, tuple[Image, ...]] = {}
    left = max(0, _SHOWN - len(own))
    for message in history:
        references = message.data.get("images", ())[:left]
        left -= len(references)
        try:
            images = [image for reference in references if (image := _load(files, room, reference)) is not None]
        except NoUploadRoom:
            break
        if images:
            shown[message.path] = tuple(images)
    return own, shown


def _load(files: KeptFiles, room: ImageRoom, reference: ImageReference) -> Image | None:
    def read() -> bytes:
        with files.open(str(reference["id"])) as file:
            return file.read()

    try:
        return room.image(str(reference["media_type"]), int(reference["bytes"]), read)
    except NotFound:  # the chat was deleted meanwhile
        return None


def discard_images(files: KeptFiles, images: Sequence[NewImage]) -> None:
    """Delete the images of a message whose chat was deleted while they were stored."""
    for new in images:
        files.delete(str(new.reference["id"]))


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
