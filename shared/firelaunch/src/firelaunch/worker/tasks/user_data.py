"""List what an app keeps about one user. Erasure removes what is listed here, and an export holds it.

Everything below ``apps/{app}/users/{uid}`` is the user's. The collections below are the app's own, with documents that
belong to users, or name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pydantic import BaseModel, Field

from ...jobs.base import Kind
from ...scope import Scope
from ...store.base import Document, Filter, Query
from ...store.fence import UserField
from ...store.scoped import ScopedStore

__all__ = [
    "HIDDEN",
    "HIDDEN_OF_GROUPS",
    "MERGE",
    "SENT",
    "KeptDocuments",
    "Merge",
    "groups_of",
    "guests_on_their_way",
    "kept_elsewhere",
    "names_user",
    "pages",
]

_PAGE = 300

HIDDEN: Final = {
    **dict.fromkeys(("chunks", "postings", "record_texts", "gates", "exports")),
    "devices": ("token",),
    "kept_files": ("content", "arriving"),
    **dict.fromkeys(("of_the_app/requests", "of_the_app/requests.writer"), ("held", "ran")),
}
"""What an export leaves out of a collection: all of it, or these fields. Nothing in it is the user's data: parts of the
index, locks, names in the bucket, the addresses that notifications are sent to, and the results of tools whose output
the app does not show."""


HIDDEN_OF_GROUPS: Final = {**HIDDEN, **dict.fromkeys(("invites", "removals"))}
"""Left out of an export of a group: also the hashes of codes and of removed users."""


class Merge(BaseModel):
    """The payload of the job that merges a guest into the job's user (:mod:`.merge`)."""

    guest: str = Field(max_length=128)


SENT: Final = "writer"
"""The field that names the user who sent a request in a group's chat, in its record and in those of its calls."""

MERGE: Final = Kind("merge_guest", Merge, max_attempts=20, seconds=1700)


@dataclass(frozen=True, slots=True)
class KeptDocuments:
    """The documents of one of the app's collections that belong to a user, or name the user.

    Args:
        query: finds them.
        field: the field that names the user.
        on_erase: whether an erasure removes the documents, or only ``field``, or has it name an owner of the group.
        exported: whether an export holds them.
        group: the group whose documents they are; None for the app's.
        folder: where they are below the group, as an export names it.
        shown: the fields that an export holds; None for all.
    """

    query: Query
    field: str = "uid"
    on_erase: Literal["delete", "anonymize", "hand_over"] = "delete"
    exported: bool = True
    group: str | None = None
    folder: str = ""
    shown: Sequence[str] | None = None

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.query.collection.rpartition("/")[2]


def kept_elsewhere(
    user: Scope, user_fields: Sequence[UserField], groups: Sequence[str] = ()
) -> tuple[KeptDocuments, ...]:
    """Return what is kept about ``user`` outside the user's own part of the database, besides the membership.

    Args:
        user_fields: the fields of the app's own collections that name users.
        groups: the groups that the user is or was a member of.
    """
    own = (Filter("uid", "==", user.uid),)
    sent = (Filter("writer", "==", user.uid),)
    root = f"apps/{user.app_id}"
    invites = Query(f"{root}/invites", where=(Filter("created_by", "==", user.uid),), limit=_PAGE)
    return (
        # Jobs go first: workers that still work for an erased user lose their leases, and can write nothing more.
        KeptDocuments(Query(f"{root}/jobs", where=own, limit=_PAGE)),
        KeptDocuments(Query(f"{root}/requests", where=own, limit=_PAGE)),
        KeptDocuments(Query(f"{root}/calls", where=own, limit=_PAGE)),
        # What the user sent in chats of groups for which the group pays. Its calls stay, as the group's costs.
        KeptDocuments(Query(f"{root}/requests", where=sent, limit=_PAGE), SENT),
        KeptDocuments(Query(f"{root}/calls", where=sent, limit=_PAGE), SENT, "anonymize"),
        KeptDocuments(Query(f"{root}/user_sums", where=own, limit=_PAGE)),
        KeptDocuments(Query(f"{root}/billing_events", where=own, limit=_PAGE)),
        # Entries of the audit log stay, and name the user by a hash. This is what says whose hash it is.
        KeptDocuments(Query(f"{root}/audit_names", where=own, limit=_PAGE), exported=False),
        KeptDocuments(Query(f"{root}/device_owners", where=own, limit=_PAGE), exported=False),
        KeptDocuments(Query(f"{root}/sources", where=own, limit=_PAGE), exported=False),
        # An invitation belongs to the app. Only the name of its creator belongs to the user.
        KeptDocuments(invites, "created_by", "anonymize", exported=False),
        *(
            KeptDocuments(each.query(user, _PAGE), each.field, each.on_erase)
            for each in user_fields
            if not each.of_groups
        ),
        *(
            KeptDocuments(each.query(user, _PAGE, group), each.field, each.on_erase, group=group)
            for group in groups
            for each in user_fields
            if each.of_groups
        ),
    )


def groups_of(store: ScopedStore, user: Scope) -> list[str]:
    """Return the groups that a user is or was a member of."""
    return [] if user.group is not None else list(store.ids(user.memberships()))


def pages(store: ScopedStore, kept: KeptDocuments, most: int = _PAGE) -> Iterator[list[Document]]:
    """Yield the documents a page at a time. Each next page is read after the previous page was handled.

    Args:
        most: the documents of a page at most.
    """
    query = replace(kept.query, limit=most)
    page = store.query(query)
    while page:
        yield page
        page = store.query(replace(query, after=[page[-1].id])) if len(page) == most else []


def guests_on_their_way(store: ScopedStore, user: Scope) -> Iterator[str]:
    """Yield the guests whose data is being moved to ``user``. Whoever erases the user erases them, too."""
    for page in pages(store, KeptDocuments(Query(f"apps/{user.app_id}/jobs", where=(Filter("uid", "==", user.uid),)))):
        for job in page:
            if job.data.get("kind") == MERGE.name and job.data.get("state") != "succeeded":
                yield Merge.model_validate_json(job.data["payload"]).guest


def names_user(document_id: str, user: Scope) -> bool:
    """Return whether a document's id is the user's, or has it between other characters than letters and digits."""
    return re.search(rf"(?<![^\W_]){re.escape(str(user.uid))}(?![^\W_])", document_id) is not None
