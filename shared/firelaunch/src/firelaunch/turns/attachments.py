"""Files in users' messages: checked when they arrive, kept among the user's files, and read again for prompts.

A message has references to its files, which lie in the user's part of the bucket
(:class:`~firelaunch.documents.kept_files.KeptFiles`). So an erasure removes them, and an export has them. Deleting a
chat deletes its files. :mod:`.file_contents` checks what is in them, and :mod:`.uploaded_files` has those that clients
put up before they send them.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..chats.store import file_prefix
from ..documents.kept_files import KeptFile, KeptFiles
from ..errors import BadRequest, FileNotTaken, NotFound, NoUploadRoom, TooLarge, size_text
from ..llm.attachments import IMAGE_TOKENS, Attachment, Kind, kind_of
from ..llm.gateway import Gateway
from ..scope import Scope
from ..slots import Room
from ..store.base import Document, Query
from ..store.scoped import ScopedStore
from .file_contents import MOST_PAGES, FileLimits, measured, media_type_of
from .uploaded_files import UploadedFiles, is_upload_id

__all__ = [
    "MOST_ATTACHMENTS",
    "NO_ATTACHMENTS",
    "AttachmentReference",
    "AttachmentRoom",
    "MessageAttachments",
    "NewAttachment",
    "attachment_file",
    "attachments_of_urls",
    "check_taken",
    "delete_attachments",
    "discard_attachments",
    "load_attachments",
    "store_attachments",
]

MOST_ATTACHMENTS: Final = 4
"""Files of one message at most."""

_SHOWN: Final = 8
"""Files that a prompt shows at most, the newest first. Those of the history cost their tokens in every turn."""

_SHOWN_BYTES: Final = 20_000_000
"""Bytes of the files in a prompt. In Base64 they take a third more, and Vertex AI refuses requests to Claude of over
30 MB, Anthropic of over 32 MB (https://platform.claude.com/docs/en/build-with-claude/pdf-support)."""

_SHOWN_RECORDINGS: Final = 1
"""Recordings in a prompt, which is what Vertex AI takes
(https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/audio-understanding)."""

_ROOM: Final = 32_000_000
"""Bytes of files in memory at a time. With their Base64 and the requests to the provider they take four times as much,
beside the app's 100 MB and others' bodies; the smallest instance that a deploy makes has 512 MiB."""

_DATA_URL = re.compile(r"data:([a-z0-9/+.-]+)(?:;[a-z-]+=[a-z0-9-]+)*;base64,([A-Za-z0-9+/]*={0,2})", re.IGNORECASE)
_ID = re.compile(r"file_[0-9a-f]{48}")
_PAGE = 100

_WHO_TAKES: Final[dict[Kind, str]] = {
    "image": 'Name a model that takes images in firelaunch.toml, or add "image" to models.openai.attachments if your '
    "server's do.",
    "pdf": "OpenAI's, Gemini's and Claude's models take PDFs. Name one in firelaunch.toml, or add \"pdf\" to "
    "models.openai.attachments if your server's do.",
    "audio": "Gemini's models take recordings, and OpenAI's gpt-audio. Name one in firelaunch.toml, under others if it "
    'is for recordings alone, or add "audio" to models.openai.attachments if your server\'s do.',
    "text": "",
}
_NAMES: Final[dict[Kind, str]] = {"image": "images", "pdf": "PDFs", "audio": "recordings", "text": "texts"}

AttachmentReference = Mapping[str, Any]
"""The fields that a message keeps of a file: ``id``, ``media_type``, ``bytes``, ``name``, ``tokens`` and ``pages``."""


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file that came with a message, and is not stored yet."""

    attachment: Attachment
    reference: AttachmentReference


@dataclass(frozen=True, slots=True)
class MessageAttachments:
    """The files of a message: references to all of them, and the files, of which some may not be stored yet."""

    references: tuple[AttachmentReference, ...] = ()
    new: tuple[NewAttachment, ...] = ()


NO_ATTACHMENTS: Final = MessageAttachments()


class AttachmentRoom:
    """The memory of this process for files. They take it until they are gone: as long as their turns run."""

    def __init__(self, most: int = _ROOM) -> None:
        self._room = Room(most, _no_room)

    def attachment(self, size: int, make: Callable[[], Attachment]) -> Attachment:
        """Return the attachment of ``size`` bytes that ``make`` returns.

        Raises:
            NoUploadRoom: other files have the memory at the moment.
        """
        return self._room.made(size, make)


def _no_room() -> NoUploadRoom:
    return NoUploadRoom("Too many files are being looked at just now. Try again.", retry_after=2)


def check_taken(gateway: Gateway, kinds: Collection[Kind]) -> None:
    """Check that one of the app's models takes files of all of ``kinds``.

    Raises:
        FileNotTaken: none does; the message names the mend.
    """
    if gateway.able(kinds):
        return
    for kind in sorted(kinds):
        if not gateway.able({kind}):
            raise FileNotTaken(f"This app's models take no {_NAMES[kind]}. {_WHO_TAKES[kind]}")
    names = " and ".join(_NAMES[kind] for kind in sorted(kinds))
    raise FileNotTaken(f"No model of this app takes {names} in one message. Send them in messages of their own.")


@dataclass(frozen=True, slots=True)
class _Arrival:
    """The means to read the files of a message.

    Args:
        files: those of the owner of the chat.
        uploads: those that the user put up before.
    """

    files: KeptFiles
    uploads: UploadedFiles
    room: AttachmentRoom
    chat_id: str
    limits: FileLimits

    def new(self, url: str, name: str) -> NewAttachment:
        known = url.rpartition("/")[2].partition("?")[0]
        if _ID.fullmatch(known):
            return self._kept(self.files, attachment_file(self.files, self.chat_id, known), name)
        if is_upload_id(known):
            return self._kept(self.uploads.files, self.uploads.get(known), name)
        data_url = _DATA_URL.fullmatch(url)
        if data_url is None:
            raise BadRequest("A file's url is a data: URL in Base64, as in data:image/png;base64,iVBORw0KGgo=")
        media_type = media_type_of(data_url[1])
        size = len(data_url[2]) * 3 // 4
        return self._read(media_type, name, size - 2, lambda: _decoded(data_url[2]))

    def _kept(self, files: KeptFiles, file: KeptFile, name: str) -> NewAttachment:
        return self._read(file.content_type, name, file.bytes, lambda: _content(files, file.id))

    def _read(self, media_type: str, name: str, size: int, read: Callable[[], bytes]) -> NewAttachment:
        self.limits.check(media_type, size)

        def make() -> Attachment:
            data = read()
            self.limits.check(media_type, len(data))
            return measured(media_type, data, name[:200])

        attachment = self.room.attachment(size + 2, make)
        digest = hashlib.sha256(media_type.encode() + b"\n" + attachment.data).hexdigest()
        file_id = f"{file_prefix(self.chat_id)}{digest[:32]}"
        return NewAttachment(attachment, _reference(file_id, attachment))


def attachments_of_urls(
    files: KeptFiles,
    uploads: UploadedFiles,
    room: AttachmentRoom,
    chat_id: str,
    urls: Sequence[tuple[str, str]],
    limits: FileLimits,
    gateway: Gateway,
) -> MessageAttachments:
    """Return the files of a message. Nothing is stored.

    Args:
        files: those of the owner of the chat: the user, or a group.
        uploads: those that the user put up before.
        urls: ``data:`` URLs, or URLs that end with the id of an upload, or of a file of the chat; and the files' names.
        gateway: says which files the app's models take.

    Raises:
        BadRequest: there are too many, or a URL is none of these, or its file is not of its type.
        FileNotTaken: no message takes files of a type, or no model of the app does.
        DocumentUnreadable: a PDF is damaged or protected by a password.
        TooLarge: a file, or all of them together, are too large.
        NotFound: the chat has no such file, and the user no such upload.
        NoUploadRoom: other files have the memory at the moment.
    """
    if len(urls) > MOST_ATTACHMENTS:
        raise BadRequest(f"A message has at most {MOST_ATTACHMENTS} files.")
    check_taken(gateway, _kinds_told(urls))
    arrival = _Arrival(files, uploads, room, chat_id, limits)
    new = tuple(arrival.new(url, name) for url, name in urls)
    check_taken(gateway, {each.attachment.kind for each in new})
    _check_sums([each.attachment for each in new])
    return MessageAttachments(tuple(each.reference for each in new), new)


def _kinds_told(urls: Sequence[tuple[str, str]]) -> set[Kind]:
    """Return the kinds that ``data:`` URLs tell, so that what no model takes is not read in vain."""
    types = [match[1] for url, _ in urls if (match := re.match(r"data:([^;,]{1,100})", url))]
    return {kind for each in types if (kind := kind_of(media_type_of(each))) is not None}


def _check_sums(attachments: Sequence[Attachment]) -> None:
    if sum(each.kind == "audio" for each in attachments) > _SHOWN_RECORDINGS:
        raise BadRequest("A message has at most one recording.")
    if sum(each.pages for each in attachments) > MOST_PAGES:
        raise TooLarge(f"The PDFs of a message have at most {MOST_PAGES} pages. Send them in several messages.")
    if sum(len(each.data) for each in attachments) > _SHOWN_BYTES:
        raise TooLarge(f"A message's files have at most {size_text(_SHOWN_BYTES)}. Send them in several messages.")


def _reference(file_id: str, attachment: Attachment) -> AttachmentReference:
    return {
        "id": file_id,
        "media_type": attachment.media_type,
        "bytes": len(attachment.data),
        "name": attachment.name,
        "tokens": attachment.tokens,
        "pages": attachment.pages,
    }


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A file's url is not valid Base64.") from None


def _content(files: KeptFiles, file_id: str) -> bytes:
    with files.open(file_id) as file:
        return file.read()


def store_attachments(files: KeptFiles, attachments: Sequence[NewAttachment]) -> None:
    """Store new files among the user's. One that the chat has already is not stored again."""
    for new in attachments:
        file_id = str(new.reference["id"])
        if files.find(file_id) is None:
            files.put(file_id, new.attachment.data, new.attachment.media_type, most=len(new.attachment.data))


def attachment_file(files: KeptFiles, chat_id: str, file_id: str) -> KeptFile:
    """Return what there is to know about a file of a chat's messages.

    Raises:
        NotFound: it is none. Files of other chats, and the app's own, are not found by this.
    """
    if not _ID.fullmatch(file_id) or not file_id.startswith(file_prefix(chat_id)):
        raise NotFound
    return files.get(file_id)


def load_attachments(
    files: KeptFiles,
    room: AttachmentRoom,
    asked: Sequence[AttachmentReference],
    new: Sequence[NewAttachment],
    history: Iterable[Document],
) -> tuple[tuple[Attachment, ...], dict[str, tuple[Attachment, ...]]]:
    """Return the files that the message refers to, and those of the history by their messages' paths.

    Of the history, files are left out that are many messages ago, that would make the prompt too large for a provider,
    or for which there is no memory at the moment.

    Args:
        new: those of the message that came with it.
        history: newest first.

    Raises:
        NoUploadRoom: there is no memory for the message's own files at the moment.
    """
    at_hand = {each.reference["id"]: each.attachment for each in new}
    found = [at_hand.get(reference["id"]) or _load(files, room, reference) for reference in asked]
    own = tuple(attachment for attachment in found if attachment is not None)
    left = _Left()
    for reference in asked:
        left.takes(reference)
    shown: dict[str, tuple[Attachment, ...]] = {}
    for message in history:
        references = [each for each in message.data.get("files", ()) if left.takes(each)]
        try:
            loaded = [each for reference in references if (each := _load(files, room, reference)) is not None]
        except NoUploadRoom:
            break
        if loaded:
            shown[message.path] = tuple(loaded)
    return own, shown


class _Left:
    """The room that a prompt still has for files."""

    def __init__(self) -> None:
        self._files, self._bytes = _SHOWN, _SHOWN_BYTES
        self._pages, self._recordings = MOST_PAGES, _SHOWN_RECORDINGS

    def takes(self, reference: AttachmentReference) -> bool:
        """Take a file in if there is room for it, and return whether there was."""
        size, pages = int(reference["bytes"]), int(reference.get("pages", 0))
        recordings = int(kind_of(str(reference["media_type"])) == "audio")
        fits = self._files > 0 and size <= self._bytes and pages <= self._pages and recordings <= self._recordings
        if fits:
            self._files, self._bytes = self._files - 1, self._bytes - size
            self._pages, self._recordings = self._pages - pages, self._recordings - recordings
        return fits


def _load(files: KeptFiles, room: AttachmentRoom, reference: AttachmentReference) -> Attachment | None:
    def make() -> Attachment:
        return Attachment(
            str(reference["media_type"]),
            _content(files, str(reference["id"])),
            str(reference["name"]),
            int(reference.get("tokens", IMAGE_TOKENS)),
            int(reference.get("pages", 0)),
        )

    try:
        return room.attachment(int(reference["bytes"]), make)
    except NotFound:  # the chat was deleted meanwhile
        return None


def discard_attachments(files: KeptFiles, attachments: Sequence[NewAttachment]) -> None:
    """Delete the files of a message whose chat was deleted while they were stored."""
    for new in attachments:
        files.delete(str(new.reference["id"]))


def delete_attachments(store: ScopedStore, files: KeptFiles, owner: Scope, chat_id: str) -> None:
    """Delete the files of a chat's messages, which are its owner's. Call this before the chat is deleted."""
    after: list[Any] | None = None
    while True:
        messages = store.query(Query(owner.messages(chat_id), limit=_PAGE, after=after))
        for message in messages:
            for reference in message.data.get("files", ()):
                files.delete(str(reference["id"]))
        if len(messages) < _PAGE:
            return
        after = [messages[-1].id]
