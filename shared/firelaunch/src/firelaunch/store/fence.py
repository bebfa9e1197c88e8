"""Fences stop late writers from writing data of a document, or of a user, that is being removed.

**A document's fence.** The document's record decides which writes of its index entries and files succeed.

To *raise* the fence, code that deletes, replaces or gives up a document changes the document's record in one commit.
Code that writes entries or files of the document holds a :class:`Fence`, made from the record as the writer read it. An
index in the same database puts :attr:`Fence.condition` into the commit of its entries. An index or a folder with a lock
of its own calls :meth:`Fence.check` while it holds the lock. Either way nothing is written after the fence was raised,
however late the writer wakes up. docs/adr/0025 explains how each backend does it.

**An owner's fence.** An erasure of a user or a group writes ``apps/{app}/erasures/{hash of the owner}`` before it
removes anything. Every commit that creates data of the owner verifies that document (:class:`Erasable`, behind
:class:`.scoped.ScopedStore`). So work that began before the erasure creates no data after it. Work that begins
afterwards (:data:`BEGAN`) may create data: the user has come back. Where the document says :data:`CLOSED`, no work
may.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

from ..errors import AlreadyExists, Fenced, InvalidId, NotFound, PreconditionFailed
from ..scope import GROUP, Scope, check_uid, split
from .base import Create, Delete, Document, DocumentStore, Filter, Query, Set, Update, Verify, Write

__all__ = ["BEGAN", "CLOSED", "Erasable", "Fence", "UserField", "begun_at"]

T = TypeVar("T")

BEGAN: Final[ContextVar[datetime | None]] = ContextVar("began", default=None)
"""The time at which the request, the job's attempt or the event began that this code works for. None if it works for
none of these, which counts as now."""

CLOSED: Final = "closed"
"""The field of an erasure's document that keeps its user from coming back: their data was moved to an account."""

_REMEMBERED = 1_000
"""The most users who came back after an erasure to remember, so that their commits need no second try."""

_TRIES = 8


@contextmanager
def begun_at(moment: datetime | None) -> Iterator[None]:
    """Make the work inside the block count as begun at ``moment``."""
    token = BEGAN.set(moment)
    try:
        yield
    finally:
        BEGAN.reset(token)


@dataclass(frozen=True, slots=True)
class UserField:
    """A field that names a user, in a collection of the app's own that several users share.

    Attributes:
        on_erase: whether an erasure of the user deletes the document, removes the field, or has it name an owner of the
            group instead.
        of_groups: whether each group has such documents, and not the app.
    """

    collection: str
    field: str
    on_erase: Literal["delete", "anonymize", "hand_over"]
    of_groups: bool = False

    def query(self, user: Scope, limit: int, group: str | None = None) -> Query:
        """Return the query for the documents of the app, or of ``group``, that name ``user``."""
        place = Scope(user.app_id) if group is None else user.of_group(group)
        return Query(f"{place.root}/{self.collection}", where=(Filter(self.field, "==", user.uid),), limit=limit)

    def is_of(self, path: str) -> bool:
        """Return whether a document is one of the collection's."""
        inside = split(path)[2:-1]
        if self.of_groups:
            return len(inside) == 3 and inside[0] == "groups" and inside[2] == self.collection
        return inside == [self.collection]


class Erasable:
    """Adds conditions to commits, so that each succeeds only if its users were not erased since its work began.

    Some commits need no extra condition, because they depend on a document that an erasure removes: a document of the
    user's, or a request's record, that must not have changed since it was read.

    Attributes:
        user_fields: the fields of the app's own collections that name users.
    """

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self.user_fields: Sequence[UserField] = ()
        self._known: OrderedDict[str, datetime] = OrderedDict()

    def users(self, writes: Sequence[Write]) -> list[str]:
        """Return the paths that the commit of ``writes`` has to verify: one for each user whose data it creates."""
        uids: dict[str, None] = {}
        if not any(_conditioned(write, "requests") for write in writes):
            uids = dict.fromkeys(uid for write in writes if type(write) in {Create, Set} for uid in _owners_of(write))
        # A document that names a user is data of that user, whoever writes it.
        if self.user_fields:
            uids |= dict.fromkeys(uid for write in writes for uid in self._named(write))
        conditioned = (write for write in writes if _conditioned(write, "users", "groups")) if uids else ()
        conditioned_uids = {uid for write in conditioned for uid in _owners_of(write)}
        return [Scope(self._app_id, uid).erasure() for uid in uids if uid not in conditioned_uids]

    def _named(self, write: Write) -> Iterator[str]:
        if not isinstance(write, Create | Set | Update):
            return
        for each in self.user_fields:
            if each.is_of(write.path) and (uid := _valid_uid(write.data.get(each.field))):
                yield uid

    def run(self, store: DocumentStore, paths: Sequence[str], commit: Callable[[list[Verify]], T]) -> T:
        """Call ``commit`` with the conditions to commit under, and return its result.

        Raises:
            Fenced: a user was erased after this work began, or is closed.
        """
        for _ in range(_TRIES):
            conditions = [Verify(path, self._known.get(path)) for path in paths]
            try:
                return commit(conditions)
            except (AlreadyExists, NotFound, PreconditionFailed):
                erasures = store.get_many(paths)
                times = [None if erasure is None else erasure.update_time for erasure in erasures]
                if times == [condition.updated_at for condition in conditions]:
                    raise  # our conditions held, so one of the commit's own conditions failed
                began = BEGAN.get() or datetime.now(UTC)
                for path, erasure in zip(paths, erasures, strict=True):
                    if erasure is not None and (erasure.update_time >= began or erasure.data.get(CLOSED)):
                        raise Fenced("This user's data was erased in the meantime.", reason=path) from None
                    # An older erasure is of a user who came back: verify that it does not change from now on.
                    self._remember(path, erasure)
        raise PreconditionFailed(reason="a user was erased again and again")

    def _remember(self, path: str, erasure: Document | None) -> None:
        self._known.pop(path, None)
        if erasure is not None:
            self._known[path] = erasure.update_time
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _owners_of(write: Write) -> Iterator[str]:
    """Yield the owners that a document belongs to, by its path or its field ``uid``, without ids that are not valid.

    A membership of a group belongs to the group and to the member.
    """
    _, _, *rest = split(write.path)
    if len(rest) >= 2 and rest[0] in {"users", "members"}:
        named: list[object] = [rest[1]]
    elif len(rest) >= 2 and rest[0] == "groups":
        named = [GROUP + rest[1], rest[3] if rest[2:3] == ["members"] and len(rest) == 4 else None]
    else:
        named = [write.data.get("uid") if isinstance(write, Create | Set) else None]
    yield from (uid for each in named if (uid := _valid_uid(each)))


def _valid_uid(value: object) -> str | None:
    try:
        return check_uid(value) if isinstance(value, str) else None
    except InvalidId:
        return None


def _conditioned(write: Write, *collections: str) -> bool:
    """Return whether a write requires that a document in or below these collections of the app has not changed."""
    at = write.if_updated_at if isinstance(write, Update | Delete) else None
    return at is not None and split(write.path)[2] in collections


class Fence:
    """A writer's fence: it lets writes through as long as ``record`` allows them. Use it from one thread.

    Args:
        record: the path of the document's record.
        updated_at: the record's ``update_time`` as the writer read it; None if there was no record.
    """

    def __init__(self, store: DocumentStore, record: str, updated_at: datetime | None) -> None:
        self._store = store
        self._record = record
        self._updated_at = updated_at
        self._allows: Callable[[Document | None], bool] = self._is_unchanged

    @classmethod
    def while_it(cls, allows: Callable[[Document | None], bool], store: DocumentStore, record: Document) -> Fence:
        """Return a fence that lets writes through as long as ``allows`` returns True for the record.

        Raises:
            Fenced: ``allows`` returns False for the record as it was read.
        """
        fence = cls(store, record.path, record.update_time)
        fence._allows = allows
        fence._update(record)
        return fence

    @property
    def condition(self) -> Verify:
        """The condition for a commit in the record's own database. If it fails, call :meth:`check` and try again."""
        return Verify(self._record, self._updated_at)

    def check(self) -> None:
        """Read the record, and raise an error if it does not allow the write.

        Raises:
            Fenced: the record does not allow the write any more.
        """
        self._update(self._store.get(self._record))

    def _update(self, record: Document | None) -> None:
        if not self._allows(record):
            raise Fenced(reason=f"the record {self._record} was deleted, replaced or given up")
        self._updated_at = None if record is None else record.update_time

    def _is_unchanged(self, record: Document | None) -> bool:
        return self._updated_at == (None if record is None else record.update_time)
