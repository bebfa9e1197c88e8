"""Let users form groups: make them, invite to them, and manage who is in them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from ..errors import AlreadyExists, BadRequest, InvalidCursor, InvalidId, JobsUnavailable, NotFound
from ..jobs.base import job_view
from ..membership.invites import InviteInvalid
from ..paging import Page, iso_time
from ..services.groups import Group, GroupRole, Groups, LastOwner, Member, TooManyGroups, TooManyMembers, check_owner
from ..worker.tasks.erase import ERASE, Erase
from ..worker.tasks.export import export_view, start_export
from .base import Body, GroupPath, PageQuery, Path, Time, caller, example, services
from .exports import DataExport, address_of
from .jobs import JobAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_GROUP: dict[str, Any] = {
    "id": "g0123456789abcdef01234567",
    "name": "Family",
    "role": "owner",
    "members": 3,
    "domains": [],
    "domain_role": "viewer",
    "created_at": "2026-03-01T09:30:00.000000Z",
}
_MEMBER = {"uid": "ada", "role": "editor", "name": "Ada", "joined_at": "2026-03-01T09:30:00.000000Z"}

Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Called = Annotated[str, Field(max_length=100, description="What you are called in the group; members see it.")]
Domain = Annotated[str, StringConstraints(max_length=253, pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$")]
Domains = Annotated[
    list[Domain],
    Field(max_length=20, description="Users whose verified e-mail address is of one of these may join by themselves."),
]
InvitedRole = Literal["viewer", "editor"]


class GroupBody(Body):
    """What changes of a group: its name, or the rule by which users may join it without an invitation."""

    model_config = example({"name": "Family"})
    name: Name | None = None
    domains: Domains | None = None
    domain_role: InvitedRole | None = Field(default=None, description="The role of those who join by their address.")


class NewGroupBody(GroupBody):
    """A new group."""

    name: Name
    member_name: Called | None = None


class GroupAnswer(BaseModel):
    """A group. `role` is yours: a "viewer" reads, an "editor" writes, and an "owner" manages the group."""

    model_config = example(_GROUP)
    id: str
    name: str
    role: GroupRole
    members: int
    domains: list[str]
    domain_role: str
    created_at: Time


class GroupPage(BaseModel):
    """A page of your groups, in the order in which you joined them."""

    model_config = example({"items": [_GROUP], "next_cursor": None})
    items: list[GroupAnswer]
    next_cursor: str | None


class GroupMember(BaseModel):
    """A member of a group."""

    model_config = example(_MEMBER)
    uid: str
    role: GroupRole
    name: str
    joined_at: Time


class GroupMemberPage(BaseModel):
    """A page of a group's members, in the order in which they joined."""

    model_config = example({"items": [_MEMBER], "next_cursor": None})
    items: list[GroupMember]
    next_cursor: str | None


class JoinBody(Body):
    """How you join."""

    model_config = example({"invite": "pZ3mJ8xqT1cW5uYv2RkLhA0b", "name": "Ada"})
    invite: str | None = Field(default=None, min_length=1, max_length=100, description="An invitation's code.")
    name: Called = ""


class GroupMemberBody(Body):
    """A member's new role, which owners set, or your own new name."""

    model_config = example({"role": "editor"})
    role: GroupRole | None = None
    name: Called | None = None


class InviteBody(Body):
    """The role that an invitation grants, its number of uses, and its hours."""

    model_config = example({"role": "editor", "uses": 1, "hours": 72})
    role: InvitedRole = "viewer"
    uses: int = Field(default=1, ge=1, le=10_000, description="How many users may join with it.")
    hours: int = Field(default=72, ge=1, le=24 * 90, description="Hours for which it holds.")


class GroupInvite(BaseModel):
    """An invitation. Its code is shown this once."""

    model_config = example(
        {
            "invite": "pZ3mJ8xqT1cW5uYv2RkLhA0b",
            "role": "editor",
            "uses": 1,
            "expires_at": "2026-03-04T09:30:00.000000Z",
        }
    )
    invite: str = Field(description="Whoever joins the group sends it.")
    role: InvitedRole
    uses: int
    expires_at: Time


class MemberPath(GroupPath):
    """A member's path."""

    uid: str = Field(max_length=128, description="The user's id in Firebase Auth.")


class GroupExportPath(GroupPath, Path):
    """The path of an export of a group."""


api = Routes("groups", "groups", prefix="/v1")


@api.post(
    "/groups",
    rate="groups",
    responses={201: GroupAnswer, **errors(TooManyGroups)},
    operation_id="makeGroup",
    summary="Make a group",
    description="You are its owner. How many you may own, and make on one day (UTC), is up to your plan.",
)
def make(body: NewGroupBody) -> tuple[dict[str, Any], int]:
    """Make a group."""
    role = body.domain_role or "viewer"
    return _group(_groups().make(caller(), body.name, body.domains or [], role, body.member_name or "")), 201


@api.get(
    "/groups",
    responses={200: GroupPage, **errors(InvalidCursor)},
    operation_id="listGroups",
    summary="List your groups",
)
def mine(query: PageQuery) -> dict[str, Any]:
    """List your groups."""
    page = _groups().mine(caller().scope, query.limit, query.cursor)
    return {"items": [_group(group) for group in page.items], "next_cursor": page.next_cursor}


@api.get(
    "/groups/<group>",
    responses={200: GroupAnswer, **errors(InvalidId, NotFound)},
    operation_id="getGroup",
    summary="Read a group",
)
def get(path: GroupPath) -> dict[str, Any]:
    """Read a group."""
    return _group(_groups().get(caller().scope, path.group))


@api.patch(
    "/groups/<group>",
    rate="groups",
    responses={200: GroupAnswer, **errors(InvalidId, NotFound)},
    operation_id="changeGroup",
    summary="Rename a group, or change who may join it",
    description="For owners.",
)
def change(path: GroupPath, body: GroupBody) -> dict[str, Any]:
    """Rename a group, or change who may join it."""
    changes = body.model_dump(exclude_none=True)
    if not changes:
        raise BadRequest("Name at least one field to change.")
    return _group(_groups().change(caller(), path.group, changes))


@api.delete(
    "/groups/<group>",
    rate="groups",
    responses={202: None, **errors(InvalidId, NotFound, JobsUnavailable)},
    operation_id="deleteGroup",
    summary="Delete a group with all its data",
    description="For owners. A job of the app removes the data; it cannot be undone.",
)
def delete(path: GroupPath) -> tuple[str, int]:
    """Delete a group with all its data."""
    app = services().store.scope
    prepared = services().jobs.prepare(app, ERASE, Erase(uid=str(app.of_group(path.group).uid)))
    _groups().close(caller(), path.group, [prepared.write])
    services().jobs.send(prepared)
    return "", 202


@api.post(
    "/groups/<group>/join",
    rate="groups",
    responses={200: GroupAnswer, **errors(InvalidId, NotFound, InviteInvalid, TooManyMembers)},
    operation_id="joinGroup",
    summary="Join a group",
    description="By an invitation, or by your verified e-mail address if the group takes its domain. A member gets the "
    "invitation's role if that is higher.",
)
def join(path: GroupPath, body: JoinBody) -> dict[str, Any]:
    """Join a group."""
    return _group(_groups().join(caller(), path.group, body.invite, body.name))


@api.get(
    "/groups/<group>/members",
    responses={200: GroupMemberPage, **errors(InvalidId, NotFound, InvalidCursor)},
    operation_id="listGroupMembers",
    summary="List a group's members",
)
def members(path: GroupPath, query: PageQuery) -> dict[str, Any]:
    """List a group's members."""
    page: Page[Member] = _groups().members(caller().scope, path.group, query.limit, query.cursor)
    return {"items": [_member(member) for member in page.items], "next_cursor": page.next_cursor}


@api.patch(
    "/groups/<group>/members/<uid>",
    rate="groups",
    responses={200: GroupMember, **errors(InvalidId, NotFound, LastOwner, TooManyGroups)},
    operation_id="changeGroupMember",
    summary="Give a member another role, or rename yourself",
    description="Owners send `role`; to hand a group over, make another member an owner, then leave. With your own id "
    "you may send `name`. Send one of the two.",
)
def change_member(path: MemberPath, body: GroupMemberBody) -> dict[str, Any]:
    """Give a member another role, or rename yourself."""
    if (body.role is None) == (body.name is None):
        raise BadRequest("Send one of role and name.")
    if body.role is not None:
        return _member(_groups().set_role(caller(), path.group, path.uid, body.role))
    return _member(_groups().rename_member(caller(), path.group, path.uid, str(body.name)))


@api.delete(
    "/groups/<group>/members/<uid>",
    rate="groups",
    responses={204: None, **errors(InvalidId, NotFound, LastOwner)},
    operation_id="removeGroupMember",
    summary="Leave a group, or remove a member",
    description="With your own id you leave. Owners remove others, who can't join again until an owner readmits them; "
    "this withdraws all invitations of the group.",
)
def remove(path: MemberPath) -> tuple[str, int]:
    """Leave a group, or remove a member."""
    _groups().remove(caller(), path.group, path.uid)
    return "", 204


@api.delete(
    "/groups/<group>/removals/<uid>",
    rate="groups",
    responses={204: None, **errors(InvalidId, NotFound)},
    operation_id="readmitToGroup",
    summary="Let a removed user join again",
    description="For owners.",
)
def readmit(path: MemberPath) -> tuple[str, int]:
    """Let a removed user join again."""
    _groups().readmit(caller(), path.group, path.uid)
    return "", 204


@api.post(
    "/groups/<group>/invites",
    rate="groups",
    responses={201: GroupInvite, **errors(InvalidId, NotFound)},
    operation_id="inviteToGroup",
    summary="Invite to a group",
    description="For owners. Give the code and the group's id to whom you invite, for example in a link to your page.",
)
def invite(path: GroupPath, body: InviteBody) -> tuple[dict[str, Any], int]:
    """Invite to a group."""
    valid_for = timedelta(hours=body.hours)
    invitation = _groups().invite(caller(), path.group, body.role, uses=body.uses, valid_for=valid_for)
    facts = {"invite": invitation.code, "role": invitation.role, "uses": invitation.uses}
    return {**facts, "expires_at": iso_time(invitation.expires_at)}, 201


@api.delete(
    "/groups/<group>/invites",
    rate="groups",
    responses={204: None, **errors(InvalidId, NotFound)},
    operation_id="withdrawGroupInvites",
    summary="Withdraw a group's invitations",
    description="For owners. No invitation from before holds any more.",
)
def withdraw(path: GroupPath) -> tuple[str, int]:
    """Withdraw a group's invitations."""
    _groups().withdraw_invitations(caller(), path.group)
    return "", 204


@api.post(
    "/groups/<group>/exports",
    rate="account",
    responses={202: JobAnswer, **errors(AlreadyExists, InvalidId, NotFound, JobsUnavailable)},
    operation_id="startGroupExport",
    summary="Export a group's data",
    description="For owners. Once a day (UTC): a repetition gives the job of the day's export.",
)
def export(path: GroupPath) -> tuple[dict[str, Any], int]:
    """Export a group's data."""
    return job_view(start_export(services(), _owned(path.group), told_by=caller().uid)), 202


@api.get(
    "/groups/<group>/exports/<id>",
    responses={200: DataExport, **errors(InvalidId, NotFound)},
    operation_id="getGroupExport",
    summary="Read an export of a group",
    description="For owners. The link to the file works for an hour, for whoever has it.",
)
def get_export(path: GroupExportPath) -> dict[str, Any]:
    """Read an export of a group."""
    return export_view(services(), _owned(path.group), path.id, partial(address_of, path.id), reader=caller().uid)


def _owned(group: str) -> Any:
    """Return the scope of a group that the caller is an owner of."""
    user = caller()
    place = user.scope.of_group(group)
    check_owner(services().store, place, user.uid)
    return place


def _groups() -> Groups:
    return Groups(services().store, services().metering.entitlements, services().clock)


def _group(group: Group) -> dict[str, Any]:
    return {**asdict(group), "domains": list(group.domains), "created_at": iso_time(group.created_at)}


def _member(member: Member) -> dict[str, Any]:
    return {**asdict(member), "joined_at": iso_time(member.joined_at)}
