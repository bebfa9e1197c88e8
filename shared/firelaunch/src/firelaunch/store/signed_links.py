"""Links that let anybody who has them read one file for a short time. Each says what it is for, and is signed.

A link to a group's file also says which member got it. Whoever follows it has to ask whether they still are one.

The app signs them itself, with a key in a record of the file's that no client can read: without it no link works.
Google's signed URLs are not used. An account that may have Google sign in its name may also sign in to Firebase as
anybody, so no app's account may (docs/adr/0046).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from secrets import token_hex
from typing import Final

from ..errors import InvalidId, NotFound
from ..scope import Scope
from .base import Document

__all__ = ["LINK_KEY", "LinkTarget", "check_link", "link_of", "new_link_key", "read_link"]

LINK_KEY: Final = "link_key"
"""The field of a record with the key of its links."""


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """What a link says, before its signature is checked.

    Args:
        owner: whose file it is: a user's, a group's, or the app's.
        until: when it ends, in seconds since 1970.
        version: of the content; "" if there is one alone.
        member: the id of the member of the group whom the link was given to; "" if the file is no group's.
    """

    owner: Scope
    until: int
    version: str
    member: str
    about: str
    signature: str


def new_link_key() -> str:
    """Return a key for a record's links."""
    return token_hex(32)


def link_of(record: Document, owner: Scope, until: datetime, version: str = "", *, reader: str) -> str:
    """Return the link's text: it says whose file it is and until when it works, and is signed.

    Args:
        reader: the id of the user who gets the link. The link of a group's file works as long as they are a member.
    """
    member = "" if owner.group is None else reader
    # No id holds a line feed.
    says = "\n".join([str(int(until.timestamp())), version, owner.uid or "", member])
    about = urlsafe_b64encode(says.encode()).decode().rstrip("=")
    return f"{about}.{_signature(record, about)}"


def read_link(text: str, app: Scope, clock: Callable[[], datetime]) -> LinkTarget:
    """Return what a link says. Its signature is checked by :func:`check_link`, once its record is read.

    Where it names a member, the caller also has to check that they are one.

    Raises:
        NotFound: it is no link, or its time is over.
    """
    about, _, signature = text.partition(".")
    try:
        until, version, uid, member = urlsafe_b64decode(about + "=" * (-len(about) % 4)).decode().split("\n")
        owner = app.of(uid) if uid else app
        target = LinkTarget(owner, int(until), version, member, about, signature)
    except (ValueError, InvalidId):  # also what is no base64, no text, or no number
        raise NotFound from None
    if target.until <= clock().timestamp() or (owner.group is not None and not member):
        raise NotFound
    return target


def check_link(target: LinkTarget, record: Document) -> None:
    """Check a link's signature.

    Raises:
        NotFound: it is none of this record's.
    """
    if LINK_KEY not in record.data:
        raise NotFound
    if not hmac.compare_digest(_signature(record, target.about).encode(), target.signature.encode()):
        raise NotFound


def _signature(record: Document, about: str) -> str:
    key = bytes.fromhex(record.data[LINK_KEY])
    return hmac.new(key, f"{record.path} {about}".encode(), sha256).hexdigest()
