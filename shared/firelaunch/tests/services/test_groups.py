"""Groups: who may do what in them, whatever order things happen in, and how little a removed member keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import Fenced, FirelaunchError, Forbidden, InvalidCursor, NotFound, Unauthenticated
from firelaunch.identity import Caller
from firelaunch.identity.base import caller_from_claims
from firelaunch.membership.invites import InviteInvalid
from firelaunch.membership.removals import Removed
from firelaunch.scope import GROUP, Scope
from firelaunch.services.groups import Groups, LastOwner, TooManyGroups, TooManyMembers
from firelaunch.settings.plans import Plan
from firelaunch.store.base import Create, DocumentStore, Query
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in
from firelaunch.worker.tasks.erase import Erasure
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

APP = Scope("demo")
PLAN: dict[str, Any] = {"requests_per_minute": 100, "daily_usd": "1", "groups": 2, "group_members": 4}
WITH_GROUPS = SETTINGS + "groups = 2\ngroup_members = 3\n"
Code = tuple[int, str]


@dataclass
class World:
    """The groups of an app, and a clock that tests may move."""

    store: ScopedStore
    members: int = 4
    ahead: timedelta = field(default_factory=timedelta)

    def __post_init__(self) -> None:
        plans = {"free": Plan.model_validate({**PLAN, "group_members": self.members})}
        self.groups = Groups(self.store, Entitlements(plans, "free"), self.clock)

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def make(self, owner: Caller, **more: Any) -> str:
        return self.groups.make(owner, "Family", more.get("domains", ()), more.get("domain_role", "viewer"), "").id

    def code(self, owner: Caller, group: str, role: str = "editor", uses: int = 100) -> str:
        return self.groups.invite(owner, group, role, uses=uses, valid_for=timedelta(hours=1)).code

    def join(self, user: Caller, group: str, code: str | None = None) -> str:
        return self.groups.join(user, group, code, "").role

    def roles(self, group: str) -> dict[str, str]:
        found = self.store.query(Query(APP.of_group(group).group_members()))
        return {member.id: str(member.data["role"]) for member in found}


def person(uid: str, email: str | None = None, *, verified: bool = True) -> Caller:
    return Caller("demo", uid, "member", email, email_verified=verified and email is not None)


ADA, BOB, CAT, DAN = map(person, ("ada", "bob", "cat", "dan"))


@pytest.fixture(params=["sqlite", "firestore"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    raw: DocumentStore
    if request.param == "firestore":
        raw = request.getfixturevalue("emulator_store")
        yield World(ScopedStore(raw, APP))
        return
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    yield World(ScopedStore(raw, APP))
    raw.close()


def test_an_invitation_lets_as_many_join_as_it_has_uses_and_gives_nobody_a_lower_role(world: World) -> None:
    group = world.make(ADA)
    code = world.code(ADA, group, "viewer", uses=1)
    assert world.join(ADA, group, code) == "owner", "which uses nothing up"
    assert world.join(BOB, group, code) == "viewer"
    assert world.join(BOB, group, code) == "viewer"
    with pytest.raises(InviteInvalid):
        world.join(CAT, group, code)
    assert world.join(BOB, group, world.code(ADA, group, "editor")) == "editor"
    assert world.roles(group) == {"ada": "owner", "bob": "editor"}
    assert [each.id for each in world.groups.mine(BOB.scope, 10, None).items] == [group]


def test_an_invitation_holds_for_its_group_and_its_time_alone(world: World) -> None:
    group, other = world.make(ADA), world.make(ADA)
    code = world.code(ADA, group)
    for tried, text in ((other, code), (group, code[:-1]), (group, "x"), ("g-none", code)):
        with pytest.raises(InviteInvalid):
            world.join(BOB, tried, text)
    world.ahead = timedelta(hours=1)
    with pytest.raises(InviteInvalid):
        world.join(BOB, group, code)
    world.ahead = timedelta()
    world.groups.withdraw_invitations(ADA, group)
    with pytest.raises(InviteInvalid):
        world.join(BOB, group, code)


@pytest.mark.parametrize(
    ("email", "verified", "joins"),
    [
        ("bob@Example.com", True, True),
        ("bob@example.com", False, False),
        (None, False, False),
        ("bob@example.com.evil.org", True, False),
        ("example.com@evil.org", True, False),
        ("bob@sub.example.com", True, False),
    ],
)
def test_a_verified_address_of_a_groups_domain_lets_in_and_no_other(
    world: World, email: str | None, verified: bool, joins: bool
) -> None:
    group = world.make(ADA, domains=["EXAMPLE.com"], domain_role="editor")
    bob = person("bob", email, verified=verified)
    if joins:
        assert world.join(bob, group) == "editor"
    else:
        with pytest.raises(Forbidden):
            world.join(bob, group)
        assert world.roles(group) == {"ada": "owner"}


def test_a_token_says_whether_its_address_is_verified() -> None:
    claims: dict[str, Any] = {"apps": {"demo": "member"}, "email": "a@example.com"}
    for value, verified in ((True, True), (False, False), ("true", False), (1, False), (None, False)):
        assert caller_from_claims("demo", "a", {**claims, "email_verified": value}).email_verified is verified


def test_without_domains_nobody_joins_without_a_code(world: World) -> None:
    group = world.make(ADA)
    with pytest.raises(Forbidden):
        world.join(person("bob", "bob@example.com"), group)
    with pytest.raises(NotFound):
        world.join(BOB, "g-none")


def test_a_removed_member_stays_out_by_old_and_new_codes_and_by_address_until_readmitted(world: World) -> None:
    group = world.make(ADA, domains=["example.com"])
    bob, code = person("bob", "bob@example.com"), world.code(ADA, group)
    world.join(bob, group, code)
    world.groups.remove(ADA, group, "bob")
    for text in (code, world.code(ADA, group), None):
        with pytest.raises(Removed):
            world.join(bob, group, text)
    with pytest.raises(InviteInvalid):
        world.join(CAT, group, code)  # the same person may have another account
    with pytest.raises(NotFound):
        world.groups.get(bob.scope, group)
    assert world.groups.mine(bob.scope, 10, None).items == []
    world.groups.readmit(ADA, group, "bob")
    assert world.join(bob, group) == "viewer", "and not what they were"


def test_who_is_no_member_yet_can_be_kept_out(world: World) -> None:
    group = world.make(ADA)
    world.groups.remove(ADA, group, "bob")
    with pytest.raises(Removed):
        world.join(BOB, group, world.code(ADA, group))


def test_the_last_owner_neither_leaves_nor_steps_down_and_hands_over_by_making_another_owner(world: World) -> None:
    group = world.make(ADA)
    world.join(BOB, group, world.code(ADA, group))
    for attempt in (
        lambda: world.groups.remove(ADA, group, "ada"),
        lambda: world.groups.set_role(ADA, group, "ada", "editor"),
    ):
        with pytest.raises(LastOwner):
            attempt()
    world.groups.set_role(ADA, group, "bob", "owner")
    world.groups.remove(ADA, group, "ada")
    assert world.roles(group) == {"bob": "owner"}
    assert world.join(ADA, group, world.code(BOB, group)) == "editor", "who left may come back"


def test_invitations_of_an_owner_who_is_one_no_more_do_not_hold(world: World) -> None:
    group = world.make(ADA)
    world.join(BOB, group, world.code(ADA, group))
    world.groups.set_role(ADA, group, "bob", "owner")
    code = world.code(BOB, group)
    world.groups.set_role(ADA, group, "bob", "editor")
    with pytest.raises(InviteInvalid):
        world.join(CAT, group, code)


OWNERS_ALONE: list[Callable[[World, Caller, str], Any]] = [
    lambda world, caller, group: world.groups.change(caller, group, {"name": "Mine"}),
    lambda world, caller, group: world.groups.close(caller, group, []),
    lambda world, caller, group: world.groups.set_role(caller, group, caller.uid, "owner"),
    lambda world, caller, group: world.groups.set_role(caller, group, "ada", "viewer"),
    lambda world, caller, group: world.groups.remove(caller, group, "ada"),
    lambda world, caller, group: world.groups.readmit(caller, group, "cat"),
    lambda world, caller, group: world.code(caller, group),
    lambda world, caller, group: world.groups.withdraw_invitations(caller, group),
]


@pytest.mark.parametrize("role", ["viewer", "editor"])
@pytest.mark.parametrize("attempt", OWNERS_ALONE)
def test_only_owners_manage_a_group(world: World, attempt: Callable[[World, Caller, str], Any], role: str) -> None:
    group = world.make(ADA)
    world.join(BOB, group, world.code(ADA, group, role))
    before = {document.path: document.data for document in world.store.query(Query(APP.groups()))}
    with pytest.raises(Forbidden):
        attempt(world, BOB, group)
    with pytest.raises(NotFound):
        attempt(world, DAN, group)  # who is no member does not learn that there is such a group
    assert {document.path: document.data for document in world.store.query(Query(APP.groups()))} == before
    assert world.roles(group) == {"ada": "owner", "bob": role}


def test_a_member_sees_the_members_and_nobody_else_does_with_whatever_cursor(world: World) -> None:
    group, other = world.make(ADA), world.make(BOB)
    for user in (BOB, CAT):
        world.join(user, group, world.code(ADA, group))
    first = world.groups.members(CAT.scope, group, 2, None)
    assert [each.uid for each in first.items] == ["ada", "bob"]
    assert first.next_cursor is not None
    assert [each.uid for each in world.groups.members(CAT.scope, group, 2, first.next_cursor).items] == ["cat"]
    with pytest.raises(InvalidCursor):
        world.groups.members(BOB.scope, other, 2, first.next_cursor)
    world.groups.remove(ADA, group, "cat")
    for user in (CAT, DAN):
        with pytest.raises(NotFound):
            world.groups.members(user.scope, group, 2, first.next_cursor)


def test_a_plan_bounds_groups_and_members_exactly_under_concurrency(world: World) -> None:
    def attempt(work: Callable[[], Any]) -> Any:
        with suppress(TooManyGroups, TooManyMembers):
            return work()

    with ThreadPoolExecutor(8) as pool:
        made = [each for each in pool.map(lambda _: attempt(lambda: world.make(ADA)), range(8)) if each]
        assert len(made) == PLAN["groups"]
        code = world.code(ADA, made[0])
        users = [person(f"user-{number}") for number in range(8)]
        joined = [each for each in pool.map(lambda u: attempt(lambda: world.join(u, made[0], code)), users) if each]
    assert len(joined) == world.members - 1
    assert len(world.roles(made[0])) == world.groups.get(ADA.scope, made[0]).members == world.members


def test_who_deletes_groups_makes_no_more_of_them_in_a_day_than_the_plan_allows(world: World) -> None:
    """Each group has a day's budget of its own: a new one for each that is deleted would have no end."""
    noon = datetime.now(UTC).replace(hour=12)
    world.ahead = noon - datetime.now(UTC)
    for _ in range(PLAN["groups"]):
        world.groups.close(ADA, world.make(ADA), [])
    with pytest.raises(TooManyGroups):
        world.make(ADA)
    assert world.make(BOB)
    world.ahead += timedelta(days=1)
    assert world.make(ADA)


def test_nobody_is_made_the_owner_of_more_groups_than_their_plan_allows(world: World) -> None:
    """Else one second account could hold the groups, and their budgets, of any number of days."""
    groups = []
    for owner in map(person, ("ann", "ben", "cho", "dee")):
        groups.append((owner, world.make(owner)))
        world.join(BOB, groups[-1][1], world.code(owner, groups[-1][1]))

    def hand_over(owner: Caller, group: str) -> bool:
        try:
            return world.groups.set_role(owner, group, "bob", "owner").role == "owner"
        except TooManyGroups:
            return False

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda each: hand_over(*each), groups))
    assert sum(given) == PLAN["groups"]
    with pytest.raises(TooManyGroups):
        world.make(BOB)
    owner, group = next(each for each, done in zip(groups, given, strict=True) if done)
    world.groups.set_role(owner, group, "bob", "editor")
    assert world.make(BOB)


def test_who_is_removed_while_they_join_is_out(world: World) -> None:
    group = world.make(ADA)
    for _ in range(4):
        code = world.code(ADA, group)

        def join(number: int, code: str = code) -> None:
            with suppress(Removed, InviteInvalid):
                world.join(BOB, group, code)

        def remove(number: int) -> None:
            world.groups.remove(ADA, group, "bob")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: (join, join, remove, join)[number](number), range(4)))
        assert world.roles(group) == {"ada": "owner"}
        assert world.groups.get(ADA.scope, group).members == 1
        world.groups.readmit(ADA, group, "bob")


def test_of_two_owners_who_leave_at_once_one_stays(world: World) -> None:
    for _ in range(4):
        group = world.make(ADA)
        world.join(BOB, group, world.code(ADA, group))
        world.groups.set_role(ADA, group, "bob", "owner")

        def leave(user: Caller, group: str = group) -> None:
            with suppress(LastOwner):
                world.groups.remove(user, group, user.uid)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(leave, (ADA, BOB)))
        [(uid, role)] = world.roles(group).items()
        assert role == "owner"
        world.groups.close(ADA if uid == "ada" else BOB, group, [])
        world.ahead += timedelta(days=1)  # a plan bounds the groups of a day, too


def test_nothing_is_written_to_a_deleted_group_and_its_members_see_it_no_more(world: World) -> None:
    group = world.make(ADA)
    world.join(BOB, group, world.code(ADA, group))
    code = world.code(ADA, group)
    world.groups.close(ADA, group, [])
    with pytest.raises(InviteInvalid):
        world.join(CAT, group, code)
    with pytest.raises(NotFound):
        world.groups.get(BOB.scope, group)
    place = APP.of_group(group)
    with pytest.raises(Fenced):
        world.store.commit([Create(place.record("meals", "m1"), {"name": "Soup"})])
    Erasure(world.store).run(str(place.uid))
    assert list(world.store.tree(place.root)) == []
    assert list(world.store.ids(BOB.scope.memberships())) == []
    with pytest.raises(Fenced):
        world.store.commit([Create(place.record("meals", "m1"), {"name": "Soup"})])


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ({"bob": "editor", "cat": "viewer"}, {"bob": "owner", "cat": "viewer"}),
        ({"cat": "viewer"}, {"cat": "owner"}),
        ({"bob": "viewer", "cat": "owner"}, {"bob": "viewer", "cat": "owner"}),
        ({}, {}),
    ],
)
def test_an_erased_owner_leaves_a_group_to_the_others_and_one_without_others_is_erased(
    world: World, others: dict[str, str], left: dict[str, str]
) -> None:
    group = world.make(ADA)
    for uid, role in others.items():
        world.join(person(uid), group, world.code(ADA, group))
        world.groups.set_role(ADA, group, uid, role)
    Erasure(world.store).run("ada")
    assert world.roles(group) == left
    assert [path for path in world.store.tree(APP.groups()) if re.search(r"\bada\b", path)] == []
    if left:
        heir = next(uid for uid, role in left.items() if role == "owner")
        assert world.groups.get(person(heir).scope, group).members == len(left)
    else:
        assert list(world.store.tree(APP.of_group(group).root)) == []


def test_an_erased_member_leaves_their_groups(world: World) -> None:
    group = world.make(ADA)
    world.join(BOB, group, world.code(ADA, group))
    Erasure(world.store).run("bob")
    assert world.roles(group) == {"ada": "owner"}
    assert world.groups.get(ADA.scope, group).members == 1


UIDS = ("ada", "bob", "cat", "dan", "eve")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "remove", "readmit", "role", "withdraw", "invite", "erase"]),
        st.sampled_from(UIDS),
        st.sampled_from(UIDS),
        st.sampled_from(["viewer", "editor", "owner"]),
    ),
    max_size=25,
)


@given(steps=STEPS)
@hypothesis_settings(max_examples=40)
def test_whatever_happens_a_group_keeps_an_owner_its_counts_are_exact_and_removed_users_stay_out(
    steps: list[tuple[str, str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = SQLiteStore(tmp_path_factory.mktemp("groups") / "data.sqlite3")
    world = World(ScopedStore(raw, APP))
    group = world.make(ADA)
    codes, out = [world.code(ADA, group)], set[str]()
    for what, by, whom, role in steps:
        before = world.roles(group)
        if not before:
            break
        with suppress(FirelaunchError):
            act(world, group, codes, (what, by, whom, role))
            out = (out | ({whom} - {by} if what == "remove" else set())) - ({whom} if what == "readmit" else set())
            if what in {"remove", "readmit", "role", "withdraw", "invite"} and by != whom:
                assert before.get(by) == "owner", f"{by} is {before.get(by)}, and was allowed to {what}"
        check(world, group, out)
    raw.close()


def act(world: World, group: str, codes: list[str], step: tuple[str, str, str, str]) -> None:
    what, by, whom, role = step
    groups, caller = world.groups, person(by)
    steps: dict[str, Callable[[], Any]] = {
        "join": lambda: world.join(caller, group, codes[-1]),
        "leave": lambda: groups.remove(caller, group, by),
        "remove": lambda: groups.remove(caller, group, whom),
        "readmit": lambda: groups.readmit(caller, group, whom),
        "role": lambda: groups.set_role(caller, group, whom, role),
        "withdraw": lambda: groups.withdraw_invitations(caller, group),
        "invite": lambda: codes.append(world.code(caller, group)),
        "erase": lambda: Erasure(world.store).run(by),
    }
    steps[what]()


def check(world: World, group: str, out: set[str]) -> None:
    roles, document = world.roles(group), world.store.get(APP.of_group(group).root)
    copies = {uid: world.store.get(APP.of(uid).membership(group)) for uid in UIDS}
    held = {uid: copy.data["role"] for uid, copy in copies.items() if copy is not None and "role" in copy.data}
    assert held == roles, "the copies below the users are of the members"
    assert not out & set(roles), "who was removed is in"
    assert (document is None) == (not roles)
    if document is not None:
        owners = [uid for uid, role in roles.items() if role == "owner"]
        assert (document.data["members"], document.data["owners"]) == (len(roles), len(owners))
        assert owners, "a group without an owner"


def test_no_token_stands_for_a_group_and_no_user_shares_a_path_with_one() -> None:
    with pytest.raises(Unauthenticated):
        caller_from_claims("demo", f"{GROUP}g1", {"apps": {"demo": "member"}})
    place = APP.of_group("g1")
    assert place.root == "apps/demo/groups/g1"
    assert place == APP.of(str(place.uid))
    assert (place.group, APP.group, APP.of("g1").group) == ("g1", None, None)


@given(uid=st.text(max_size=40), group=st.text(max_size=40))
def test_the_walls_of_a_user_and_of_a_group_hold_whatever_their_ids(uid: str, group: str) -> None:
    with suppress(FirelaunchError):
        user, place = APP.of(uid), APP.of_group(group)
        if user != place:
            assert not f"{user.root}/".startswith(f"{place.root}/")
            assert not f"{place.root}/".startswith(f"{user.root}/")


# The routes.


@pytest.fixture
def users(make_app: Any) -> dict[str, User]:
    app = make_app(WITH_GROUPS)
    return {uid: sign_in(app, uid) for uid in ("ada", "bob", "cat", "dan")} | {"app": app}


def code_of(answer: Any) -> Code:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_an_app_has_groups_if_a_plan_has_some(make_app: Any) -> None:
    app = make_app(SETTINGS)
    assert sign_in(app, "ada").post("/v1/groups", {"name": "Family"}).status_code == 404
    assert not [path for path in app.test_client().get("/openapi.json").get_json()["paths"] if "groups" in path]


def test_a_group_from_its_making_to_its_end_by_the_routes(users: dict[str, Any]) -> None:
    ada, bob, cat, dan = (users[uid] for uid in ("ada", "bob", "cat", "dan"))
    made = ada.post("/v1/groups", {"name": "Family", "member_name": "Ada"})
    group = made.get_json()
    assert (made.status_code, group["role"], group["members"]) == (201, "owner", 1)
    path = f"/v1/groups/{group['id']}"
    invite = ada.post(f"{path}/invites", {"role": "editor", "uses": 5}).get_json()
    assert bob.post(f"{path}/join", {"invite": invite["invite"], "name": "Bob"}).get_json()["role"] == "editor"
    assert cat.post(f"{path}/join", {"invite": invite["invite"]}).status_code == 200
    assert code_of(dan.post(f"{path}/join", {"invite": invite["invite"]})) == (409, "too_many_members")
    members = bob.get(f"{path}/members").get_json()["items"]
    assert [(each["uid"], each["role"], each["name"]) for each in members] == [
        ("ada", "owner", "Ada"), ("bob", "editor", "Bob"), ("cat", "editor", "")
    ]  # fmt: skip
    assert code_of(bob.patch(path, {"name": "Ours"})) == (403, "forbidden")
    assert ada.patch(path, {"name": "Home", "domains": ["example.com"]}).get_json()["name"] == "Home"
    assert code_of(ada.delete(f"{path}/members/ada")) == (409, "last_owner")
    assert ada.delete(f"{path}/members/cat").status_code == 204
    assert code_of(cat.post(f"{path}/join", {"invite": invite["invite"]})) == (403, "removed")
    assert code_of(cat.get(path)) == (404, "not_found")
    assert ada.delete(f"{path}/removals/cat").status_code == 204
    assert code_of(cat.post(f"{path}/join", {"invite": invite["invite"]})) == (403, "invite_invalid")
    assert ada.delete(f"{path}/invites").status_code == 204
    assert ada.patch(f"{path}/members/bob", {"role": "owner"}).get_json()["role"] == "owner"
    assert ada.delete(f"{path}/members/ada").status_code == 204
    assert [each["id"] for each in bob.get("/v1/groups").get_json()["items"]] == [group["id"]]
    assert ada.get("/v1/groups").get_json()["items"] == []
    assert bob.delete(path).status_code == 202
    assert code_of(bob.get(path)) == (404, "not_found")
    assert [job.state for job in run_jobs(users["app"])] == ["succeeded"]
    services = users["app"].services
    assert list(services.store.tree(services.store.scope.of_group(group["id"]).root)) == []


def test_members_rename_themselves_and_nobody_else(users: dict[str, Any]) -> None:
    ada, bob, cat = (users[uid] for uid in ("ada", "bob", "cat"))
    path = f"/v1/groups/{ada.post('/v1/groups', {'name': 'Family', 'member_name': 'Ada'}).get_json()['id']}"
    code = ada.post(f"{path}/invites", {}).get_json()["invite"]
    bob.post(f"{path}/join", {"invite": code, "name": "Bob"})
    renamed = bob.patch(f"{path}/members/bob", {"name": "Robert"})
    assert (renamed.status_code, renamed.get_json()["name"], renamed.get_json()["role"]) == (200, "Robert", "viewer")
    assert code_of(bob.patch(f"{path}/members/ada", {"name": "Eve"})) == (403, "forbidden")
    assert code_of(ada.patch(f"{path}/members/bob", {"name": "Eve"})) == (403, "forbidden")
    assert code_of(cat.patch(f"{path}/members/cat", {"name": "Cat"})) == (404, "not_found")
    for body in ({}, {"name": "x", "role": "owner"}, {"name": "x" * 101}):
        assert bob.patch(f"{path}/members/bob", body).status_code == 400, body
    names = [(each["uid"], each["name"]) for each in ada.get(f"{path}/members").get_json()["items"]]
    assert names == [("ada", "Ada"), ("bob", "Robert")]
    ada.delete(f"{path}/members/bob")
    assert code_of(bob.patch(f"{path}/members/bob", {"name": "Bob"})) == (404, "not_found")


def test_the_audit_log_says_who_changed_what_in_a_group(users: dict[str, Any]) -> None:
    ada, admin = users["ada"], sign_in(users["app"], "boss", role="admin")
    path = f"/v1/groups/{ada.post('/v1/groups', {'name': 'Family'}).get_json()['id']}"
    code = ada.post(f"{path}/invites", {}).get_json()["invite"]
    users["bob"].post(f"{path}/join", {"invite": code})
    ada.patch(f"{path}/members/bob", {"role": "editor"})
    ada.delete(f"{path}/members/bob")
    entries = admin.get("/v1/ops/audit").get_json()["items"]
    told = [(each["what"], each["by"], each["whom"]) for each in reversed(entries)]
    assert told == [
        ("group.made", "ada", None),
        ("invitation.made", "ada", None),
        ("role.changed", "ada", "bob"),
        ("member.removed", "ada", "bob"),
    ]
    assert code not in str(entries)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "domains": ["no"]}, "domains"),
        ({"name": "x", "domains": ["a.com"] * 21}, "domains"),
        ({"name": "x", "domain_role": "owner"}, "domain_role"),
        ({"name": "x", "owner": "bob"}, "owner"),
        ({"name": "x", "uid": "bob"}, "uid"),
    ],
)
def test_bad_bodies_are_refused_by_the_field(users: dict[str, Any], body: dict[str, Any], says: str) -> None:
    answer = users["ada"].post("/v1/groups", body)
    assert answer.status_code == 400
    assert says in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("uid", ["__x__", "%2e%2e", "group~g1", "x" * 129])
def test_ids_that_are_none_of_users_are_refused(users: dict[str, Any], uid: str) -> None:
    path = f"/v1/groups/{users['ada'].post('/v1/groups', {'name': 'Family'}).get_json()['id']}"
    for answer in (
        users["ada"].patch(f"{path}/members/{uid}", {"role": "editor"}),
        users["ada"].delete(f"{path}/members/{uid}"),
        users["ada"].delete(f"{path}/removals/{uid}"),
    ):
        assert answer.status_code in {400, 404}
