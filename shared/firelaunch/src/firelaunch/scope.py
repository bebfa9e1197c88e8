"""Build the paths of one app's data, or of one owner's data in it, and refuse every id that could lead out of it.

An owner is a user, or a group of users. A group's data is laid out as a user's is.

A ``Scope`` is made from the settings' ``app_id`` and the verified token's ``uid``, never from a request's body. The
paths that a ``Scope`` can build, apart from those of :meth:`Scope.records`, are also those that an app's own rules and
collections may not use (:mod:`firelaunch.store.reserved_paths`), so a method that is added here is protected too. Paths
are plain strings ("apps/demo/users/ada/chats/c1") that only this module builds.
:class:`firelaunch.store.scoped.ScopedStore` checks them again on their way to the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from .errors import InvalidId, ScopeViolation

__all__ = [
    "APP_ID",
    "GROUP",
    "Scope",
    "check_app_id",
    "check_collection_name",
    "check_id",
    "check_record_id",
    "check_uid",
    "split",
]

APP_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?")
"""A Cloud Run service name: at most 49 characters, a letter first, no hyphen last
(https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/create)."""

GROUP: Final = "group~"
"""The beginning of a scope's ``uid`` that stands for a group. No token's user may have such an id."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_COLLECTION = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ID_BYTES = 1500
"""The most bytes of an id in Firestore (https://firebase.google.com/docs/firestore/quotas)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UID_CHARACTERS = 128
"""Firebase Auth allows uids of 1 to 128 characters (https://firebase.google.com/docs/auth/admin/manage-users)."""
_RECORD_TEXT = re.compile(r"r[0-9a-f]{31}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}", re.ASCII)
_PERIOD = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)


def check_app_id(app_id: str) -> str:
    """Return ``app_id`` if it is a valid Cloud Run service name.

    Raises:
        InvalidId: ``app_id`` is no such name.
    """
    if type(app_id) is not str or not APP_ID.fullmatch(app_id):
        raise InvalidId("An app id is 1 to 49 lower-case letters, digits and hyphens, with a letter first.")
    return app_id


def check_uid(uid: str) -> str:
    """Return ``uid`` if Firebase Auth could have issued it and Firestore accepts it as a document id.

    Raises:
        InvalidId: ``uid`` is empty, over 128 characters, "." or "..", of the form ``__x__``, or contains "/", a control
            character or a lone surrogate
            (https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields).
    """
    ok = type(uid) is str and 0 < len(uid) <= _UID_CHARACTERS and uid not in {".", ".."} and "/" not in uid
    if not ok or _RESERVED.fullmatch(uid) or _CONTROL.search(uid) or not _is_utf8(uid):
        raise InvalidId("That user id is not valid.")
    return uid


def check_id(value: str) -> str:
    """Return ``value`` if it is valid as the id of a chat, a message, a document, a job or a request.

    Our own ids are narrower than Firestore's: 1 to 64 letters, digits, "_" and "-", and not of the form ``__x__``. So
    they mean the same in a path, a URL, a vector filter, a cache key and a file name.

    Raises:
        InvalidId: ``value`` is anything else.
    """
    if type(value) is not str or not _ID.fullmatch(value) or _RESERVED.fullmatch(value):
        raise InvalidId
    return value


def check_record_id(value: str) -> str:
    """Return ``value`` if it is valid as the id of a record of an app's own collections.

    Such an id may be anything that Firestore takes, for example a date, a bar code or a user's id.

    Raises:
        InvalidId: ``value`` is empty, over 1,500 bytes, "." or "..", of the form ``__x__``, or contains "/", a control
            character or a lone surrogate.
    """
    ok = type(value) is str and value not in {"", ".", ".."} and "/" not in value
    if not ok or _RESERVED.fullmatch(value) or _CONTROL.search(value) or not _is_utf8(value):
        raise InvalidId
    if len(value.encode()) > _ID_BYTES:
        raise InvalidId
    return value


def check_collection_name(name: str) -> str:
    """Return ``name`` if it is valid as the name of an app's own collection. It may still be one of firelaunch's names.

    Raises:
        InvalidId: ``name`` is not a lower-case letter and at most 39 lower-case letters, digits and underscores.
    """
    if type(name) is not str or not _COLLECTION.fullmatch(name):
        raise InvalidId(
            "A collection's name is a lower-case letter, then at most 39 lower-case letters, digits and underscores."
        )
    return name


def record_text_id(collection: str, record_id: str) -> str:
    """Return the id under which the index keeps the text of one of the app's own records."""
    return "r" + sha256(f"{collection}/{record_id}".encode()).hexdigest()[:31]


def is_record_text(document_id: str) -> bool:
    """Return whether a document's id is that of a record's text. Those of files and pages begin with "d"."""
    return _RECORD_TEXT.fullmatch(document_id) is not None


def split(path: str) -> list[str]:
    """Return the segments of a path, after checking each one as Firestore would.

    Raises:
        ScopeViolation: the path is no plain string, or a segment is empty, "." or "..", of the form ``__x__``, over
            1,500 bytes, or no valid UTF-8.
    """
    if type(path) is not str:  # a subclass may split into segments that are not those of its text
        raise ScopeViolation(reason=f"a {type(path).__name__} is no path")
    return list(_segments(path))


@lru_cache(maxsize=4096)
def _segments(path: str) -> tuple[str, ...]:
    segments = path.split("/")
    for segment in segments:
        bad = segment in {"", ".", ".."} or _RESERVED.fullmatch(segment) or not _is_utf8(segment)
        if bad or len(segment.encode()) > _ID_BYTES or "\x00" in segment:
            raise ScopeViolation(reason=f"path segment {segment[:80]!r} is not allowed")
    return tuple(segments)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Scope:
    """One app, or (with ``uid``) one owner of data in it: a user, or a group of users.

    A group's ``uid`` is ``GROUP`` and the group's id. So jobs, records, vectors and fences tell groups from each other
    and from users by the same field that tells users apart, and code that knows nothing of groups takes none of them
    for the app.

    Raises:
        InvalidId: ``app_id`` or ``uid`` is not valid.
    """

    app_id: str
    uid: str | None = None

    def __post_init__(self) -> None:
        check_app_id(self.app_id)
        if self.uid is not None:
            check_uid(self.uid)
            if self.uid.startswith(GROUP):
                check_id(self.uid.removeprefix(GROUP))

    @classmethod
    def plain(cls, scope: Scope) -> Scope:
        """Return a checked copy of ``scope``. Use the copy, because the object itself may change after the check.

        Raises:
            ScopeViolation: ``scope`` is of a subclass, whose paths may be anything.
            InvalidId: the ids of ``scope`` are not valid (any more).
        """
        if type(scope) is not cls:
            raise ScopeViolation(reason=f"a {type(scope).__name__} is no scope")
        return cls(scope.app_id, scope.uid)

    def of(self, uid: str) -> Scope:
        """Return the scope of one owner of this app, by the id of a user or by the ``uid`` of a group's scope."""
        return Scope(self.app_id, uid)

    def of_group(self, group: str) -> Scope:
        """Return the scope of one group of this app."""
        return Scope(self.app_id, GROUP + check_id(group))

    @property
    def group(self) -> str | None:
        """The group's id; None if the scope is a user's, or the app's."""
        return self.uid.removeprefix(GROUP) if self.uid is not None and self.uid.startswith(GROUP) else None

    @property
    def root(self) -> str:
        """The path of the owner's document, or of the app's if the scope has no owner."""
        if self.uid is None:
            return f"apps/{self.app_id}"
        return f"apps/{self.app_id}/users/{self.uid}" if self.group is None else f"{self.groups()}/{self.group}"

    def _user(self) -> str:
        if self.uid is None:
            raise ScopeViolation(reason="a user's path was asked of a scope that has no user")
        return self.root

    def _person(self) -> str:
        if self.group is not None:
            raise ScopeViolation(reason="a path that only users have was asked of a group")
        return self._user()

    def _shared(self) -> str:
        """Return the path of what has members: the group's, or the app's."""
        return f"apps/{self.app_id}" if self.group is None else self.root

    def groups(self) -> str:
        """Return the path of the collection of the app's groups."""
        return f"apps/{self.app_id}/groups"

    def group_members(self) -> str:
        """Return the path of the collection of the group's members."""
        if self.group is None:
            raise ScopeViolation(reason="a group's path was asked of a scope that has none")
        return f"{self.root}/members"

    def group_member(self, uid: str) -> str:
        """Return the path of one user's membership of the group, by which each request of theirs is decided."""
        return f"{self.group_members()}/{check_uid(uid)}"

    def memberships(self) -> str:
        """Return the path of the collection that names the groups that the user is a member of."""
        return f"{self._person()}/memberships"

    def membership(self, group: str) -> str:
        """Return the path of the entry of one group in :meth:`memberships`."""
        return f"{self.memberships()}/{check_id(group)}"

    def groups_gate(self) -> str:
        """Return the path of the gate that each group that the user makes changes, so that their count is exact."""
        return f"{self._person()}/gates/groups"

    def users(self) -> str:
        """Return the path of the collection of the app's users."""
        return f"apps/{self.app_id}/users"

    def records(self, collection: str) -> str:
        """Return the path of one of the app's own collections: the user's part of it, or the app's if there is no user.

        The name is the app's own choice, so callers check that it is none of firelaunch's names.
        """
        return f"{self.root}/{check_collection_name(collection)}"

    def record(self, collection: str, record_id: str) -> str:
        """Return the path of one record in :meth:`records`."""
        return f"{self.records(collection)}/{check_record_id(record_id)}"

    def chats(self) -> str:
        """Return the path of the collection of the user's chats."""
        return f"{self._user()}/chats"

    def chat(self, chat_id: str) -> str:
        """Return the path of one chat."""
        return f"{self._user()}/chats/{check_id(chat_id)}"

    def messages(self, chat_id: str) -> str:
        """Return the path of the collection of one chat's messages."""
        return f"{self.chat(chat_id)}/messages"

    def message(self, chat_id: str, message_id: str) -> str:
        """Return the path of one message."""
        return f"{self.chat(chat_id)}/messages/{check_id(message_id)}"

    def usage(self, day: str) -> str:
        """Return the path of the user's usage on one day. ``day`` is ``yyyy-mm-dd`` in UTC."""
        if type(day) is not str or not _DAY.fullmatch(day):
            raise InvalidId("A day is written yyyy-mm-dd.")
        return f"{self._user()}/usage/{day}"

    def rollup(self, day: str) -> str:
        """Return the path of the summed usage of all users of the app on one day. ``day`` is as in :meth:`usage`."""
        if type(day) is not str or not _DAY.fullmatch(day):
            raise InvalidId("A day is written yyyy-mm-dd.")
        return f"apps/{self.app_id}/rollups/{day}"

    def sums(self) -> str:
        """Return the path of the collection of the sums of each hour."""
        return f"apps/{self.app_id}/sums"

    def hour_sum(self, hour: str, shard: int) -> str:
        """Return the path of one shard of the sums of an hour. ``hour`` is ``yyyy-mm-ddThh`` in UTC."""
        if type(hour) is not str or not _HOUR.fullmatch(hour) or type(shard) is not int or shard < 0:
            raise InvalidId("An hour is written yyyy-mm-ddThh.")
        return f"{self.sums()}/{hour}-{shard}"

    def user_sums(self) -> str:
        """Return the path of the collection of what each user used in each day and month."""
        return f"apps/{self.app_id}/user_sums"

    def user_sum(self, period: str) -> str:
        """Return the path of what the user used in a day or a month (``yyyy-mm-dd`` or ``yyyy-mm`` in UTC).

        Its id has a hash of the user's id.
        """
        if type(period) is not str or not _PERIOD.fullmatch(period):
            raise InvalidId("A day is written yyyy-mm-dd, and a month yyyy-mm.")
        return f"{self.user_sums()}/{period}-{sha256(self._user().encode()).hexdigest()[:40]}"

    def budget(self, day: str) -> str:
        """Return the path of the pool of money of the month that ``day`` is in. ``day`` is as in :meth:`usage`."""
        if type(day) is not str or not _DAY.fullmatch(day):
            raise InvalidId("A day is written yyyy-mm-dd.")
        return f"apps/{self.app_id}/budget/{day[:7]}"

    def draws(self, day: str) -> str:
        """Return the path of the collection of what requests of that month have drawn from the app's budget."""
        return f"{self.budget(day)}/draws"

    def draw(self, day: str, draw_id: str) -> str:
        """Return the path of what one request has drawn."""
        return f"{self.draws(day)}/{check_id(draw_id)}"

    def devices(self) -> str:
        """Return the path of the collection of the user's devices that receive notifications."""
        return f"{self._person()}/devices"

    def device(self, device_id: str) -> str:
        """Return the path of one device."""
        return f"{self._person()}/devices/{check_id(device_id)}"

    def device_owner(self, device_id: str) -> str:
        """Return the path of the document that names a device's owner, in the app's own collection."""
        return f"apps/{self.app_id}/device_owners/{check_id(device_id)}"

    def memory(self) -> str:
        """Return the path of the notes that the app's model keeps on the user."""
        return f"{self._person()}/memory/notes"

    def exports(self) -> str:
        """Return the path of the collection of the records of exports of the user's data."""
        return f"{self._user()}/exports"

    def export(self, job_id: str) -> str:
        """Return the path of the record of one export of the user's data. Its id is that of the export's job."""
        return f"{self._user()}/exports/{check_id(job_id)}"

    def kept_files(self) -> str:
        """Return the path of the collection of the files that the app keeps, for the user or for itself."""
        return f"{self.root}/kept_files"

    def kept_file(self, file_id: str) -> str:
        """Return the path of one file that the app keeps. Its content lies below the same path in the bucket."""
        return f"{self.kept_files()}/{check_record_id(file_id)}"

    def credit_entry(self, entry_id: str) -> str:
        """Return the path of one entry of the user's credit: a payment, or a grant."""
        return f"{self._user()}/credit_entries/{check_id(entry_id)}"

    def member(self) -> str:
        """Return the path of the user's membership, in the app's own collection."""
        self._person()
        return f"apps/{self.app_id}/members/{self.uid}"

    def erasure(self) -> str:
        """Return the path of the record of the user's erasure, in the app's own collection. Its id is a hash."""
        return f"apps/{self.app_id}/erasures/{sha256(self._user().encode()).hexdigest()[:40]}"

    def removal(self, uid: str) -> str:
        """Return the path of the record of a user's removal from the app, or from the group. Its id is a hash."""
        return f"{self._shared()}/removals/{sha256(check_uid(uid).encode()).hexdigest()[:40]}"

    def invite(self, digest: str) -> str:
        """Return the path of one invitation to the app, or to the group, by its code's digest."""
        return f"{self._shared()}/invites/{check_id(digest)}"

    def requests(self) -> str:
        """Return the path of the collection of the app's metered requests."""
        return f"apps/{self.app_id}/requests"

    def request(self, request_id: str) -> str:
        """Return the path of one metered request, in the app's own collection."""
        return f"{self.requests()}/{check_id(request_id)}"

    def calls(self) -> str:
        """Return the path of the collection of the records of the app's model calls."""
        return f"apps/{self.app_id}/calls"

    def call(self, call_id: str) -> str:
        """Return the path of the record of one model call, in the app's own collection."""
        return f"{self.calls()}/{check_id(call_id)}"

    def audit(self) -> str:
        """Return the path of the collection of the app's audit log, to which documents are only added."""
        return f"apps/{self.app_id}/audit"

    def audit_entry(self, entry_id: str) -> str:
        """Return the path of one entry of the audit log."""
        return f"{self.audit()}/{check_id(entry_id)}"

    def audit_name(self) -> str:
        """Return the path of the document that says whose hash the audit log has for the user."""
        self._person()
        return self.name_of_audit(f"u{sha256(str(self.uid).encode()).hexdigest()[:40]}")

    def name_of_audit(self, pseudonym: str) -> str:
        """Return the path of the document that says who is meant by a hash in the audit log."""
        return f"apps/{self.app_id}/audit_names/{check_id(pseudonym)}"

    def billing_event(self, event_id: str) -> str:
        """Return the path of the receipt of one Stripe event, in the app's own collection."""
        return f"apps/{self.app_id}/billing_events/{check_id(event_id)}"

    def jobs(self) -> str:
        """Return the path of the collection of the app's jobs."""
        return f"apps/{self.app_id}/jobs"

    def job(self, job_id: str) -> str:
        """Return the path of one job, in the app's own collection."""
        return f"apps/{self.app_id}/jobs/{check_id(job_id)}"

    def schedule(self, name: str) -> str:
        """Return the path of the latest tick of one schedule, in the app's own collection."""
        return f"apps/{self.app_id}/schedules/{check_id(name)}"

    def members(self) -> str:
        """Return the path of the collection of the app's members."""
        return f"apps/{self.app_id}/members"

    def batch_items(self, job_id: str) -> str:
        """Return the path of the collection of the results of one of the user's batches."""
        return f"{self._user()}/batches/{check_id(job_id)}/items"

    def documents(self) -> str:
        """Return the path of the collection of the user's documents, or of the library if the scope has no user."""
        return f"{self.root}/library" if self.uid is None else f"{self.root}/documents"

    def record_texts(self) -> str:
        """Return the path of the collection that says which texts of this scope's own records are in the index."""
        return f"{self.root}/record_texts"

    def document(self, document_id: str) -> str:
        """Return the path of one document of the user, or of the app's library.

        To the index, the text of one of the app's own records is a document too. Its id tells it apart.
        """
        checked = check_id(document_id)
        return f"{self.record_texts() if is_record_text(checked) else self.documents()}/{checked}"

    def chunks(self) -> str:
        """Return the path of the collection of the chunks of this scope's documents in Firestore's index."""
        return f"{self.root}/chunks"

    def postings(self) -> str:
        """Return the path of the collection of the chunks' terms, by which Firestore's index finds words."""
        return f"{self.root}/postings"

    def vectors(self) -> str:
        """Return the path of the collection of the texts behind the app's vectors in Vertex AI's index."""
        return f"apps/{self.app_id}/vectors"

    def vector(self, key: str) -> str:
        """Return the path of the text behind one vector."""
        return f"{self.vectors()}/{check_id(key)}"

    def documents_gate(self) -> str:
        """Return the path of the gate that each new document of this scope changes, so that counts are exact."""
        return f"{self.root}/gates/documents"

    def schema(self) -> str:
        """Return the path of the document that says in which version the app's data is."""
        return f"apps/{self.app_id}/schema/version"

    def index_state(self) -> str:
        """Return the path of the document that says which index version the app uses."""
        return f"apps/{self.app_id}/index/state"

    def all_under_way(self) -> str:
        """Return the path of the collection of a re-embedding's notes on documents. It also holds the index state."""
        return f"apps/{self.app_id}/index"

    def under_way(self, key: str) -> str:
        """Return the path of the note on one document, by its key in :meth:`sources`."""
        return f"{self.all_under_way()}/{check_id(key)}"

    def sources(self) -> str:
        """Return the path of the collection that names every document of the app, whoever owns it."""
        return f"apps/{self.app_id}/sources"

    def source(self, document_id: str) -> str:
        """Return the path of the entry that names one document of this scope in :meth:`sources`.

        Users may have documents with the same id, so the entry's id is made of both the scope and the document's id.
        """
        key = sha256(self.document(document_id).encode()).hexdigest()[:40]
        return f"{self.sources()}/{key}"
