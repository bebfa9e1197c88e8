"""Add, list, read and delete documents: the caller's own, and those of the app's library.

:mod:`firelaunch.documents` keeps the documents; :mod:`firelaunch.api.search` searches them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from ..documents.catalog import Documents, DocumentSource
from ..errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Fenced,
    FetchRefused,
    Forbidden,
    InvalidCursor,
    InvalidId,
    JobsUnavailable,
    NotFound,
    NoUploadRoom,
    PassageChanged,
    RateLimited,
    TooLarge,
    TooMany,
    TooManyUploads,
)
from ..identity import Caller
from ..jobs.base import job_view
from ..paging import iso_time
from ..rag.files import is_document_name, upload_path
from .base import (
    Body,
    OptionalGroup,
    PageQuery,
    Path,
    QueryModel,
    Time,
    backend,
    caller,
    example,
    link_address,
    services,
    stored_response,
)
from .jobs import JobAnswer
from .refusals import OF_THE_INDEX, OF_THE_STORE, errors, errors_of_anyone
from .routes import Routes
from .upload_form import UploadForm

__all__ = ["DocumentPage", "api"]

_DOCUMENT = {
    "id": "d0123456789abcdef0123456789abcdef",
    "name": "handbook.pdf",
    "url": None,
    "part_of": None,
    "status": "ready",
    "progress": 1.0,
    "error": None,
    "warnings": [
        {
            "code": "picture_pages",
            "message": "3 of 4 pages are pictures. Run text recognition (OCR) on the file and upload it again.",
        }
    ],
    "bytes": 182_044,
    "characters": 40_120,
    "chunks": 57,
    "cost_micro_usd": 0,
    "job_id": "j0123456789abcdef0123456789abcdef",
    "created_at": "2026-03-01T09:30:00.000000Z",
    "updated_at": "2026-03-01T09:30:02.000000Z",
}

_ELSEWHERE = {"url": "https://example.com/guide.html"}


_FOR_A_GROUP = "For the members of this group; its editors and owners may."
_OF_A_GROUP = "This group's documents, for its members, rather than the caller's own."


class NewDocument(Body):
    """A document that is elsewhere: one of ``url`` and ``upload``."""

    model_config = ConfigDict(**Body.model_config, **example(_ELSEWHERE))
    url: str | None = Field(default=None, min_length=1, max_length=2_000, description="A page or a file on the web.")
    upload: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Name of a file that the client put into Firebase Storage, in its user's `uploads` folder.",
    )
    library: bool = Field(default=False, description="For all members of the app; admins alone may.")
    group: OptionalGroup = Field(default=None, description=_FOR_A_GROUP)


def _body(media_type: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media_type: {"schema": model}}}}


class DocumentUpload(BaseModel):
    """A document's file, and what it is known by."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]
    name: str = Field(default="", max_length=200, description="What it is known by; the file's own name if left out.")
    library: bool = Field(default=False, description="For all members of the app; admins alone may.")
    group: OptionalGroup = Field(default=None, description=_FOR_A_GROUP)


class NewCrawl(Body):
    """A site to be taken in."""

    model_config = ConfigDict(
        **Body.model_config, **example({"url": "https://example.com/docs/", "depth": 2, "pages": 20})
    )
    url: str = Field(min_length=1, max_length=2_000, description="The first page; no other site is gone to.")
    depth: int = Field(default=2, ge=0, le=10, description="Links from the first page at most.")
    pages: int = Field(default=50, ge=1, le=1_000, description="Addresses tried at most.")
    library: bool = Field(default=False, description="For all members of the app; admins alone may.")
    group: OptionalGroup = Field(default=None, description=_FOR_A_GROUP)


class DocumentError(BaseModel):
    """Why a document failed."""

    problem: str = Field(description="Short and stable, for code.")
    message: str = Field(description="For the user, with what to do about it.")


class DocumentWarning(BaseModel):
    """Something of a document's file that was not read."""

    code: str = Field(description='Short and stable, for code, such as "picture_pages".')
    message: str = Field(description="For the user, with what to do about it.")


class DocumentAnswer(BaseModel):
    """A document."""

    model_config = example(_DOCUMENT)
    id: str
    name: str
    url: str | None
    part_of: str | None = Field(default=None, description="The mail that it is attached to, and is deleted with.")
    status: str = Field(description='"queued", "parsing", "embedding", "ready", "failed" or "deleting".')
    progress: float = Field(description="From 0 to 1; written at most once a second.")
    error: DocumentError | None
    warnings: list[DocumentWarning] = Field(description="What was not read of a file that was read.")
    bytes: int
    characters: int = Field(description="Of its text.")
    chunks: int
    cost_micro_usd: int = Field(description="What embedding it cost this time.")
    job_id: str | None = Field(description="The job that does, or did, the work.")
    created_at: Time | None
    updated_at: Time | None


class DocumentPage(BaseModel):
    """Documents, newest first."""

    model_config = example({"items": [_DOCUMENT], "next_cursor": None})
    items: list[DocumentAnswer]
    next_cursor: str | None


class LibraryQuery(QueryModel):
    """Chooses between the library and the caller's own documents."""

    model_config = ConfigDict(extra="forbid")
    library: bool = Field(default=False, description="The app's library rather than the caller's own documents.")
    group: OptionalGroup = Field(default=None, description=_OF_A_GROUP)


class ListQuery(PageQuery):
    """Names a page of documents, and chooses between the library and the caller's own."""

    library: bool = Field(default=False, description="The app's library rather than the caller's own documents.")
    group: OptionalGroup = Field(default=None, description=_OF_A_GROUP)


_TEXT_CHARACTERS = 20_000
"""Most characters of a document's text in one response."""


class TextQuery(LibraryQuery):
    """Names a part of a document's text by its characters."""

    start: int = Field(default=0, ge=0, le=1_000_000_000, description="The first one, counted from 0.")
    end: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description=f"The first one that is left out; at most {_TEXT_CHARACTERS} after `start`, which is the default.",
    )
    around: int = Field(default=0, ge=0, le=5_000, description="Characters to give before and after them.")
    chunk_id: str | None = Field(
        default=None,
        max_length=64,
        description="A citation's: 409 `passage_changed` unless its passage lies from `start` to `end`.",
    )


class TextAnswer(BaseModel):
    """A part of a document's text, and where it stands."""

    model_config = example(
        {
            "document_id": _DOCUMENT["id"],
            "library": False,
            "title": "handbook.pdf",
            "url": None,
            "page": 3,
            "last_page": 3,
            "headings": ["Leave"],
            "start": 5_210,
            "end": 5_244,
            "characters": 40_120,
            "before": "Leave\n\n",
            "text": "There are 30 days of leave a year.",
            "after": "\n\nThey are taken",
        }
    )
    document_id: str
    library: bool
    title: str
    url: str | None
    page: int | None = Field(description="Page, slide or sheet on which it begins, counted from 1.")
    last_page: int | None = Field(description="That on which it ends.")
    headings: list[str] = Field(description="Those that it stands under where it begins, outermost first.")
    start: int
    end: int = Field(description="Less than what was asked for where the text ends.")
    characters: int = Field(description="Of the document's whole text.")
    before: str = Field(description="What stands before it; empty unless `around` asks for it.")
    text: str
    after: str


class FileLink(BaseModel):
    """A link to a document's file."""

    model_config = example(
        {
            "document_id": _DOCUMENT["id"],
            "name": "handbook.pdf",
            "bytes": 182_044,
            "url": "https://my-app-1234567890.europe-west1.run.app/v1/documents/d0123/content?key=...",
            "expires_at": "2026-03-01T09:35:00.000000Z",
        }
    )
    document_id: str
    name: str
    bytes: int
    url: str = Field(description="Needs no token. Browsers show PDFs and pictures, and download everything else.")
    expires_at: Time = Field(description="Until when `url` works. Each request gives a new one.")


class FileKey(QueryModel):
    """The key in the `url` of a file."""

    key: str = Field(max_length=1_000, description="As in the `url`.")


class UploadLimits(BaseModel):
    """How large documents may be."""

    model_config = example({"request_bytes": 26_214_400, "file_bytes": 26_214_400, "text_characters": 12_000_000})
    request_bytes: int = Field(description="The most bytes of a file in a request to `/v1/uploads`.")
    file_bytes: int = Field(description="The most bytes of a file that comes by Firebase Storage or from a URL.")
    text_characters: int = Field(description="The most characters of a document's text.")


_LINK_SECONDS = 300
"""Seconds for which a link to a document's file works: enough to open it, and to go on after a break."""

_SHOWN = ((b"%PDF-", "application/pdf"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
"""How files begin that browsers may show, and their types. None of them is a page that runs in the app's origin."""

_FILE: dict[str, Any] = {
    "description": "The file.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}

_OF_A_DOCUMENT = (InvalidId, NotFound)
_OF_A_NEW_ONE = (
    TooLarge,
    TooMany,
    TooManyUploads,
    NoUploadRoom,
    RateLimited,
    JobsUnavailable,
    InvalidId,
    NotFound,
    Forbidden,
)


def _text(document: str, query: TextQuery) -> dict[str, Any]:
    start, end = query.start, query.end if query.end is not None else query.start + _TEXT_CHARACTERS
    if not start < end <= start + _TEXT_CHARACTERS:
        raise BadRequest(f"end: 1 to {_TEXT_CHARACTERS} characters after start.")
    documents, scope = _documents(library=query.library, group=query.group)
    record, span = documents.read(scope, document, start, end, around=query.around, passage=query.chunk_id)
    if span is None:
        raise BadRequest("start: the document's text ends before it.")
    return {
        "document_id": document,
        "library": query.library,
        "title": record.data.get("name", ""),
        "url": record.data.get("url") or None,
        "page": span.page,
        "last_page": span.last_page,
        "headings": list(span.headings),
        "start": span.start,
        "end": span.end,
        "characters": record.data.get("characters", 0),
        "before": span.before,
        "text": span.text,
        "after": span.after,
    }


api = Routes("documents", "documents", prefix="/v1", guests=True)


@api.post(
    "/documents",
    rate="uploads",
    responses={200: DocumentAnswer, 202: DocumentAnswer, **errors(*_OF_A_NEW_ONE, FetchRefused)},
    summary="Put up a document that is elsewhere",
    description="The body says where it is. A document of the same name or URL is replaced. 202: a job indexes it; "
    "200: it was there with this very content, and nothing is done.",
    operation_id="addDocument",
    openapi_extensions=_body("application/json", NewDocument),
)
def create() -> tuple[dict[str, Any], int]:
    """Put up a document that is elsewhere."""
    if request.mimetype == "multipart/form-data":
        return upload()  # clients from before this had a path of its own
    backend().uploads.count(caller().scope)
    document, fresh = _from_elsewhere()
    return document, 202 if fresh else 200


@api.post(
    "/uploads",
    rate="uploads",
    responses={200: DocumentAnswer, 202: DocumentAnswer, **errors(*_OF_A_NEW_ONE)},
    summary="Upload a document",
    description="A document of the same name is replaced. 202: a job indexes it; 200: it was there with this very "
    "content, and nothing is done. Send `name` and `library` before the file: a full plan is then refused before the "
    "file is read.",
    operation_id="uploadDocument",
    openapi_extensions=_body("multipart/form-data", DocumentUpload),
)
def upload() -> tuple[dict[str, Any], int]:
    """Upload a document."""
    if request.mimetype != "multipart/form-data":
        raise BadRequest("Send the document as the file 'file' of a multipart/form-data body.")
    with backend().uploads.place(caller().scope):
        document, fresh = _uploaded()
    return document, 202 if fresh else 200


@api.get(
    "/documents",
    responses={200: DocumentPage, **errors(InvalidCursor, InvalidId, NotFound)},
    operation_id="listDocuments",
    summary="List documents",
)
def index(query: ListQuery) -> dict[str, Any]:
    """List documents."""
    documents, scope = _documents(library=query.library, group=query.group)
    page = documents.page(scope, query.limit, query.cursor)
    return {"items": page.items, "next_cursor": page.next_cursor}


@api.post(
    "/crawls",
    rate="crawls",
    guests=False,
    responses={
        202: JobAnswer,
        **errors(AlreadyExists, TooLarge, FetchRefused, InvalidId, NotFound, Forbidden, JobsUnavailable),
    },
    operation_id="startCrawl",
    summary="Take in the pages of a site",
    description="A job goes from page to page and puts each up as a document; its `result` names them.",
)
def crawl(body: NewCrawl) -> tuple[dict[str, Any], int]:
    """Take in the pages of a site."""
    documents, scope = _documents(library=body.library, group=body.group, write=True)
    return job_view(documents.crawl(scope, body.url, body.depth, body.pages)), 202


@api.get(
    "/documents/<id>",
    responses={200: DocumentAnswer, **errors(*_OF_A_DOCUMENT)},
    operation_id="getDocument",
    summary="Read a document's state",
)
def get(path: Path, query: LibraryQuery) -> dict[str, Any]:
    """Read a document's state."""
    documents, scope = _documents(library=query.library, group=query.group)
    return documents.get(scope, path.id)


@api.get(
    "/documents/<id>/text",
    rate="files",
    responses={200: TextAnswer, **errors(*_OF_A_DOCUMENT, Conflict, PassageChanged)},
    operation_id="getDocumentText",
    summary="Read a part of a document's text",
    description="Opens a citation: its `document_id`, `start`, `end`, `chunk_id` and `library` give the passage, "
    "and `around` what stands around it. Pages through the whole text with `start` and `end`.",
)
def text(path: Path, query: TextQuery) -> dict[str, Any]:
    """Read a part of a document's text."""
    return _text(path.id, query)


@api.get(
    "/documents/<id>/file",
    rate="files",
    responses={200: FileLink, **errors(*_OF_A_DOCUMENT, Conflict)},
    operation_id="getDocumentFile",
    summary="Get a link to a document's file",
    description="The link works for five minutes, for whoever has it. It ends with the document, and when the document "
    "is replaced. The link to a group's file also ends when you are no member any more.",
)
def file(path: Path, query: LibraryQuery) -> dict[str, Any]:
    """Get a link to a document's file."""
    until = services().clock() + timedelta(seconds=_LINK_SECONDS)
    documents, scope = _documents(library=query.library, group=query.group)
    documents.get(scope, path.id)  # a link's key may have to be written, which viewers of a group could not
    record, link = services().documents.link_to_file(scope, path.id, until, reader=caller().uid)
    return {
        "document_id": path.id,
        "name": record.data["name"],
        "bytes": record.data["bytes"],
        "url": link_address("documents.content", id=path.id, key=link),
        "expires_at": iso_time(until),
    }


@api.get(
    "/documents/<id>/content",
    public=True,
    responses={200: _FILE, **errors_of_anyone(*_OF_A_DOCUMENT, RateLimited, *OF_THE_STORE)},
    operation_id="getDocumentContent",
    summary="Fetch a document's file by its link",
    description="The `url` of a file. It needs no token, as its `key` says who may have the file, and until when. One "
    "range of its bytes may be asked for.",
)
def content(path: Path, query: FileKey) -> Response:
    """Fetch a document's file by its link."""
    record, pieces = services().documents.file_of_link(path.id, query.key, _check_member)
    media_type = next((kind for head, kind in _SHOWN if pieces.beginning.startswith(head)), None)
    disposition = _disposition("inline" if media_type else "attachment", record.data["name"])
    response = stored_response(
        pieces, media_type or "application/octet-stream", record.data["bytes"], record.data["hash"], disposition
    )
    response.headers["Referrer-Policy"] = "no-referrer"  # the address is a key
    if media_type == "application/pdf":
        # Chromium 150 shows a PDF in a sandbox, but older ones refuse. The type keeps the file from being a page.
        response.headers["Content-Security-Policy"] = "script-src 'none'"
    return response


def _disposition(kind: str, name: str) -> str:
    """Return the header that gives a file its name (RFC 6266), in ASCII for old clients."""
    name = name.replace("/", "_")
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@api.get(
    "/uploads",
    responses={200: UploadLimits, **errors()},
    operation_id="getUploadLimits",
    summary="Read how large documents may be",
)
def limits() -> dict[str, Any]:
    """Read how large documents may be."""
    policy, settings = services().documents.policy, services().settings
    return {
        "request_bytes": min(settings.upload_bytes, policy.file_bytes),
        "file_bytes": policy.file_bytes,
        "text_characters": policy.text_characters,
    }


@api.delete(
    "/documents/<id>",
    rate="changes",
    responses={204: None, **errors(Fenced, Conflict, *_OF_A_DOCUMENT, *OF_THE_INDEX)},
    operation_id="deleteDocument",
    summary="Delete a document, its passages and its file",
)
def delete(path: Path, query: LibraryQuery) -> tuple[str, int]:
    """Delete a document, its passages and its file."""
    documents, scope = _documents(library=query.library, group=query.group, write=True)
    documents.delete(scope, path.id)
    return "", 204


def _documents(*, library: bool, group: str | None, write: bool = False) -> tuple[Documents, Any]:
    """Return the documents that a request is about, and their scope.

    Whether the caller is a member of the group, and may write, is checked with the first read and each commit.

    Raises:
        BadRequest: the request names both the library and a group.
        Forbidden: the caller wants to change the library and is not an admin.
    """
    user = caller()
    if not group:
        return services().documents, _scope(user, library=library, write=write)
    if library:
        raise BadRequest("group: name a group or the library, and not both.")
    from ..services.groups import guard_of  # an app without groups starts without it

    place = user.scope.of_group(group)
    return services().documents.for_member(place, guard_of(place, user.uid, writes=write)), place


def _check_member(place: Any, uid: str) -> None:
    from ..services.groups import check_member  # an app without groups starts without it

    check_member(services().store, place, uid)


def _scope(user: Caller, *, library: bool, write: bool = False) -> Any:
    """Return the scope of the documents that a request is about: the caller's own, or the library's.

    Raises:
        Forbidden: the caller wants to change the library and is not an admin.
    """
    if not library:
        return user.scope
    if write and user.role != "admin":
        raise Forbidden("Only the app's admins may change its library.", reason=f"role {user.role!r}")
    return user.library


def _uploaded() -> tuple[dict[str, Any], bool]:
    """Add the file of a form while it arrives, and refuse it as early as possible."""
    app_documents, settings = services().documents, services().settings
    form = UploadForm(request, settings.upload_bytes, app_documents.policy.file_bytes)
    backend().uploads.count(caller().scope)
    file = form.file()
    # Checked before the file is read, so that a user without room does not upload it in vain.
    documents, scope, source = _place_and_source(form)
    if not documents.has_room(scope, source):
        raise TooMany("There is no room for another document: delete one first.")
    with app_documents.received(caller().scope, file, form.filename) as incoming:
        form.rest()
        # Read again: fields that follow the file count too.
        documents, scope, source = _place_and_source(form)
        return documents.add(scope, source, incoming)


def _place_and_source(form: UploadForm) -> tuple[Documents, Any, DocumentSource]:
    """Return the documents, the scope and the source that a form names in the fields read so far.

    Raises:
        BadRequest: a field is not valid.
        Forbidden: the form names the library and the caller is not an admin.
    """
    name = (form.fields.get("name") or form.filename).strip()
    if not is_document_name(name):
        raise BadRequest("name: a document's name has 1 to 200 printable characters, and not only dots.")
    library = form.fields.get("library", "false").lower()  # some generated clients write a boolean as Python does
    if library not in {"true", "false"}:
        raise BadRequest('library: "true" or "false".')
    group = form.fields.get("group") or None
    return *_documents(library=library == "true", group=group, write=True), DocumentSource("file", name)


def _from_elsewhere() -> tuple[dict[str, Any], bool]:
    """Add a document from a URL or from Firebase Storage, as the JSON body says."""
    try:
        body = NewDocument.model_validate(request.get_json())
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)[:5]
        said = (f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in problems)
        raise BadRequest("; ".join(said)) from None
    if (body.url is None) == (body.upload is None):
        raise BadRequest("Send one of url and upload. A file goes to /v1/uploads, as multipart/form-data.")
    if body.url is not None:
        url = services().documents.fetcher.target(body.url).url
        documents, scope = _documents(library=body.library, group=body.group, write=True)
        return documents.add(scope, DocumentSource("url", url[-200:], url))
    return _from_upload(str(body.upload), library=body.library, group=body.group)


def _from_upload(name: str, *, library: bool, group: str | None) -> tuple[dict[str, Any], bool]:
    """Add a file of the caller's own uploads. Into a group or the library, it is copied as the file that it is now."""
    documents, scope = _documents(library=library, group=group, write=True)
    own = caller().scope
    if scope == own:
        return documents.add(scope, DocumentSource("upload", name))
    source = DocumentSource("file", name)
    path = upload_path(own, name)
    if not documents.has_room(scope, source):
        raise TooMany("There is no room for another document: delete one first.")
    with backend().uploads.place(own):
        try:
            file = services().documents.files(own).open(path)
        except NotFound:
            raise NotFound("There is no such file in your uploads. Upload it, and then name it here.") from None
        with file:
            return documents.add(scope, source, file)
