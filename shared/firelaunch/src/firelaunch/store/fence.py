"""Fences: what a wipe has raised decides which writes still land, of a document and of a user.

**A document's.** Its record decides which writes of its entries and files still land.

Whoever deletes, replaces or gives up a document *raises* the fence: one commit changes the document's record. Whoever
writes entries or files of it holds a :class:`Fence`, made from the record as the writer read it. An index in the same
database puts :attr:`Fence.condition` into the commit of its entries; an index or a folder with a lock of its own calls
:meth:`Fence.check` while it holds the lock. Either way nothing is written once the fence is raised, however late the
writer wakes up. docs/adr/0025 says how each backend does it.

**A user's.** An erasure writes ``apps/{app}/erasures/{hash of the user}`` before it removes anything. Every commit
that makes something of a user's verifies that document (:class:`Erasable`, behind :class:`.scoped.ScopedStore`), so
what had begun before the erasure makes nothing after it. What begins afterwards (:data:`BEGAN`) is of the same user,
come back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, TypeVar

from ..errors import AlreadyExists, Fenced, InvalidId, NotFound, PreconditionFailed
from ..scope import Scope, check_uid, split
from .base import Create, Delete, Document, DocumentStore, Set, Update, Verify, Write

__all__ = ["BEGAN", "Erasable", "Fence", "begun_at"]

T = TypeVar("T")

BEGAN: Final[ContextVar[datetime | None]] = ContextVar("began", default=None)
"""When the request, the try of a job or the event began that this code works for; None where it works for none, which
counts as now."""

_KEPT = 1_000
"""Users who came back after an erasure, remembered so that their commits need no second try."""

_TRIES = 8


@contextmanager
def begun_at(moment: datetime | None) -> Iterator[None]:
    """Have what is done inside count as begun at ``moment``."""
    token = BEGAN.set(moment)
    try:
        yield
    finally:
        BEGAN.reset(token)


class Erasable:
    """Makes of each commit one that lands only if its users were not erased since its work began.

    A commit that is conditioned on something that an erasure removes needs no more than that: a document of the
    user's, or a request's record, that must be as it was read.
    """

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self._known: OrderedDict[str, datetime] = OrderedDict()

    def users(self, writes: Sequence[Write]) -> list[str]:
        """The paths that the commit of ``writes`` has to verify: one for each user for whom it makes something."""
        made = dict.fromkeys(uid for write in writes if type(write) in {Create, Set} and (uid := _user_of(write)))
        if not made or any(_conditioned(write, "requests") for write in writes):
            return []
        bound = {_user_of(write) for write in writes if _conditioned(write, "users")}
        return [Scope(self._app_id, uid).erasure() for uid in made if uid not in bound]

    def run(self, store: DocumentStore, paths: Sequence[str], commit: Callable[[list[Verify]], T]) -> T:
        """What ``commit`` returns, given the conditions to commit under.

        Raises:
            Fenced: a user was erased after this work began.
        """
        for _ in range(_TRIES):
            conditions = [Verify(path, self._known.get(path)) for path in paths]
            try:
                return commit(conditions)
            except (AlreadyExists, NotFound, PreconditionFailed):
                found = store.get_many(paths)
                if [None if each is None else each.update_time for each in found] == [c.updated_at for c in conditions]:
                    raise  # it was another condition
                began = BEGAN.get() or datetime.now(UTC)
                for path, erasure in zip(paths, found, strict=True):
                    if erasure is not None and erasure.update_time >= began:
                        raise Fenced("This user's data was erased in the meantime.", reason=path) from None
                    self._remember(path, erasure)
        raise PreconditionFailed(reason="a user was erased again and again")

    def _remember(self, path: str, erasure: Document | None) -> None:
        self._known.pop(path, None)
        if erasure is not None:
            self._known[path] = erasure.update_time
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


def _user_of(write: Write) -> str | None:
    """Whose a document is: by its path, or by what it says. What can be no user's id is nobody's."""
    _, _, *rest = split(write.path)
    if len(rest) >= 2 and rest[0] in {"users", "members"}:
        uid: object = rest[1]
    else:
        uid = write.data.get("uid") if isinstance(write, Create | Set) else None
    try:
        return check_uid(uid) if isinstance(uid, str) else None
    except InvalidId:
        return None


def _conditioned(write: Write, collection: str) -> bool:
    """Whether a write demands that a document of this collection of the app, or below it, is as it was read."""
    at = write.if_updated_at if isinstance(write, Update | Delete) else None
    return at is not None and split(write.path)[2:3] == [collection]


class Fence:
    """What a write depends on: that ``record`` still allows it. For one writer, which uses it from one thread.

    Args:
        record: path of the document's record.
        updated_at: the record's ``update_time`` as the writer read it; None where it was not there.
    """

    def __init__(self, store: DocumentStore, record: str, updated_at: datetime | None) -> None:
        self._store = store
        self._record = record
        self._updated_at = updated_at
        self._allows: Callable[[Document | None], bool] = self._is_unchanged

    @classmethod
    def while_it(cls, allows: Callable[[Document | None], bool], store: DocumentStore, record: Document) -> Fence:
        """A fence that stands as long as ``allows`` says so of the record, however else that changes.

        Raises:
            Fenced: it does not, of the record as it was read.
        """
        fence = cls(store, record.path, record.update_time)
        fence._allows = allows
        fence._take_up(record)
        return fence

    @property
    def condition(self) -> Verify:
        """The condition for a commit in the record's own database. Where it fails, call :meth:`check` and try again."""
        return Verify(self._record, self._updated_at)

    def check(self) -> None:
        """Read the record.

        Raises:
            Fenced: it does not allow the write (any more).
        """
        self._take_up(self._store.get(self._record))

    def _take_up(self, found: Document | None) -> None:
        if not self._allows(found):
            raise Fenced(reason=f"the record {self._record} was deleted, replaced or given up")
        self._updated_at = None if found is None else found.update_time

    def _is_unchanged(self, found: Document | None) -> bool:
        return self._updated_at == (None if found is None else found.update_time)
