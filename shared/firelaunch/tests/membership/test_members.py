"""The door: firebase-admin against a server that plays Firebase Auth, over a real socket; SQLite, or the emulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firebase_admin import credentials
from firelaunch.errors import BadRequest, Contention, Forbidden, InvalidId, NotFound
from firelaunch.identity.base import IdentityUnavailable
from firelaunch.membership import lock
from firelaunch.membership.claims import TooManyApps
from firelaunch.membership.firebase import FirebaseDirectory
from firelaunch.membership.invites import InviteInvalid
from firelaunch.membership.members import LOCKS, Membership, Requester
from firelaunch.membership.policy import Policy
from firelaunch.membership.removals import Removed
from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore, Set
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.accounts import AccountServer
from firelaunch.worker.tasks.erase import Erasure
from google.oauth2.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

PROJECT = "demo-door"


class _Key(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Credentials:
        return Credentials(token="owner")  # type: ignore[no-untyped-call]


@dataclass
class World:
    """A door, its accounts and its database, and a clock that tests may move."""

    accounts: AccountServer
    store: DocumentStore
    ahead: timedelta = field(default_factory=timedelta)

    def __post_init__(self) -> None:
        self.door = self.another_door()

    def another_door(self) -> Membership:
        """As another instance of the function would have it."""
        directory = FirebaseDirectory(PROJECT, toolkit_url=self.accounts.toolkit_url, credential=_Key())
        return Membership(directory, lambda _: self.store, self.store, self.clock)

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def app(self, app_id: str, **policy: Any) -> None:
        self.store.commit([Set(f"apps/{app_id}", {"name": app_id, **Policy(**policy).data()})])

    def visitor(self, uid: str, tenant: str | None = None, **account: Any) -> Requester:
        self.accounts.add(uid, tenant, **account)
        return Requester(uid, tenant, time.time())

    def member(self, app_id: str, uid: str) -> dict[str, Any] | None:
        found = self.store.get(f"apps/{app_id}/members/{uid}")
        return dict(found.data) if found else None


@pytest.fixture
def accounts() -> Iterator[AccountServer]:
    with AccountServer(PROJECT) as server:
        yield server


@pytest.fixture
def world(accounts: AccountServer, tmp_path: Path) -> Iterator[World]:
    store = SQLiteStore(tmp_path / "door.sqlite3")
    yield World(accounts, store)
    store.close()


@pytest.fixture
def cloud_world(accounts: AccountServer, emulator_store: DocumentStore) -> World:
    return World(accounts, emulator_store)


def test_anybody_may_join_an_open_app_and_joining_again_changes_nothing(world: World) -> None:
    world.app("demo", join="open")
    ada = world.visitor("ada", claims={"beta": True, "apps": {"other": "admin"}})

    assert [world.door.join(ada, "demo"), world.door.join(ada, "demo")] == ["member", "member"]

    assert world.accounts.claims("ada") == {"beta": True, "apps": {"other": "admin", "demo": "member"}}
    assert (world.member("demo", "ada") or {})["role"] == "member"
    assert [call.action for call in world.accounts.calls] == ["lookup", "update", "lookup"]


def test_an_app_that_says_nothing_clear_lets_nobody_in_uninvited(world: World) -> None:
    ada = world.visitor("ada")
    for join in (None, "OPEN", "anyone", ["open"], {"open": True}, ""):
        world.store.commit([Set("apps/demo", {"name": "Demo", "join": join})])
        with pytest.raises(Forbidden, match="invitation"):
            world.door.join(ada, "demo")
    assert world.accounts.claims("ada") == {}


@pytest.mark.parametrize("app", ["nowhere", "Demo", "demo/users", "..", "", "a" * 50])
def test_an_app_that_is_not_there_cannot_be_joined(world: World, app: str) -> None:
    with pytest.raises((NotFound, InvalidId)):
        world.door.join(world.visitor("ada"), app)


@pytest.mark.parametrize(
    ("account", "joins"),
    [
        ({"email": "ada@example.com", "emailVerified": True}, True),
        ({"email": "ada@EXAMPLE.com", "emailVerified": True}, True),
        ({"email": "ada@example.com", "emailVerified": False}, False),
        ({"email": "ada@example.com"}, False),
        ({"email": "ada@sub.example.com", "emailVerified": True}, False),
        ({"email": "ada@notexample.com", "emailVerified": True}, False),
        ({"email": "example.com@evil.org", "emailVerified": True}, False),
        ({"email": "ada@example.com@evil.org", "emailVerified": True}, False),
        ({}, False),
    ],
)
def test_a_domain_app_takes_verified_addresses_of_its_domains(
    world: World, account: dict[str, Any], joins: bool
) -> None:
    world.app("demo", join="domain", domains=("Example.com", "example.org"))
    ada = world.visitor("ada", **account)
    if joins:
        assert world.door.join(ada, "demo") == "member"
    else:
        with pytest.raises(Forbidden):
            world.door.join(ada, "demo")
        assert world.accounts.claims("ada") == {}


def test_an_invitation_gives_its_role_to_as_many_as_it_is_for(world: World) -> None:
    world.app("demo", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "editor", uses=2, valid_for=timedelta(hours=1))

    roles = [world.door.join(world.visitor(uid), "demo", invite.code) for uid in ("ada", "bob")]
    assert roles == ["editor", "editor"]
    with pytest.raises(InviteInvalid):
        world.door.join(world.visitor("eve"), "demo", invite.code)
    assert world.accounts.claims("eve") == {}


def test_an_invitation_holds_in_its_own_app_and_its_own_time_alone(world: World) -> None:
    world.app("demo", join="invite")
    world.app("other", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "member", uses=9, valid_for=timedelta(hours=1))
    ada = world.visitor("ada")

    for app, code in [("other", invite.code), ("demo", invite.code[:-1]), ("demo", "../x"), ("demo", "é\ud800")]:
        with pytest.raises(InviteInvalid):
            world.door.join(ada, app, code)
    world.ahead = timedelta(hours=1)
    with pytest.raises(InviteInvalid):
        world.door.join(ada, "demo", invite.code)


def test_an_invitation_takes_no_role_from_anybody_and_is_not_used_up_by_who_has_it(world: World) -> None:
    world.app("demo", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "member", uses=1, valid_for=timedelta(hours=1))
    editor = world.visitor("editor", claims={"apps": {"demo": "editor"}})

    assert [world.door.join(root, "demo", invite.code), world.door.join(editor, "demo", invite.code)] == [
        "admin",
        "editor",
    ]
    assert world.door.join(world.visitor("ada"), "demo", invite.code) == "member"


def test_a_joining_that_fails_half_way_is_made_good_by_the_same_call_and_costs_one_use(world: World) -> None:
    world.app("demo", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "member", uses=1, valid_for=timedelta(hours=1))
    ada, bob = world.visitor("ada"), world.visitor("bob")

    world.accounts.fail = [400]
    with pytest.raises(IdentityUnavailable):
        world.door.join(ada, "demo", invite.code)
    with pytest.raises(InviteInvalid):
        world.door.join(bob, "demo", invite.code)
    assert world.door.join(ada, "demo", invite.code) == "member"

    world.door.leave(ada, "demo")
    with pytest.raises(InviteInvalid):
        world.door.join(ada, "demo", invite.code)


def test_the_code_of_an_invitation_is_not_in_the_database(world: World, tmp_path: Path) -> None:
    world.app("demo", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "member", uses=1, valid_for=timedelta(hours=1))
    world.door.join(world.visitor("ada"), "demo", invite.code)
    files = list(tmp_path.glob("door.sqlite3*"))
    assert files
    assert all(invite.code.encode() not in file.read_bytes() for file in files)


def test_leaving_ends_one_membership_and_no_other(world: World) -> None:
    world.app("demo", join="open")
    world.app("other", join="open")
    ada = world.visitor("ada")
    world.door.join(ada, "demo")
    world.door.join(ada, "other")

    world.door.leave(ada, "demo")

    assert world.accounts.claims("ada") == {"apps": {"other": "member"}}
    assert world.member("demo", "ada") is None
    with pytest.raises(NotFound):
        world.door.set_role(world.visitor("root", claims={"apps": {"demo": "admin"}}), "demo", "ada", "admin")


def test_an_app_that_is_gone_can_still_be_left(world: World) -> None:
    ada = world.visitor("ada", claims={"apps": {"gone": "member"}})
    world.door.leave(ada, "gone")
    assert world.accounts.claims("ada") == {}


def removed_bob(world: World, **policy: Any) -> tuple[Requester, Requester]:
    """An app of that policy with an admin, and one whom the admin removed."""
    world.app("demo", **policy)
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    bob = world.visitor("bob", email="bob@example.com", emailVerified=True, claims={"apps": {"demo": "editor"}})
    world.door.remove(root, "demo", "bob")
    return root, bob


@pytest.mark.parametrize(
    "policy", [{"join": "open"}, {"join": "invite"}, {"join": "domain", "domains": ("example.com",)}], ids=str
)
def test_a_removal_holds_on_every_way_in_until_an_admin_lifts_it(world: World, policy: dict[str, Any]) -> None:
    root, bob = removed_bob(world, **policy)
    codes = [
        world.door.invite(root, "demo", role, uses=9, valid_for=timedelta(hours=1)).code for role in ("member", "admin")
    ]
    for code in (None, *codes):
        with pytest.raises(Removed, match="readmit"):
            world.door.join(bob, "demo", code)
    world.door.leave(bob, "demo")
    with pytest.raises(Removed):
        world.another_door().join(bob, "demo", codes[0])
    with pytest.raises(NotFound):
        world.door.set_role(root, "demo", "bob", "editor")
    assert (world.accounts.claims("bob"), world.member("demo", "bob")) == ({}, None)

    world.door.readmit(root, "demo", "bob")
    assert world.door.join(bob, "demo", codes[0]) == "member"


def test_a_removal_is_of_one_app_and_of_one_user(world: World) -> None:
    _, bob = removed_bob(world, join="open")
    world.app("other", join="open")
    assert world.door.join(bob, "other") == "member"
    assert world.door.join(world.visitor("ada"), "demo") == "member"


def test_one_who_left_before_the_admin_removed_them_is_kept_out_as_well(world: World) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    bob = world.visitor("bob")
    world.door.join(bob, "demo")
    world.door.leave(bob, "demo")
    world.door.remove(root, "demo", "bob")
    with pytest.raises(Removed):
        world.door.join(bob, "demo")


def test_an_admin_who_removes_themselves_has_left(world: World) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    world.door.remove(root, "demo", "root")
    assert world.accounts.claims("root") == {}
    assert world.door.join(root, "demo") == "member"


def test_a_removal_that_ends_half_way_keeps_out_at_once_and_is_completed_by_the_same_call(world: World) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    bob = world.visitor("bob")
    world.door.join(bob, "demo")
    world.accounts.fail = [400]
    with pytest.raises(IdentityUnavailable):
        world.door.remove(root, "demo", "bob")
    with pytest.raises(Removed):
        world.door.join(bob, "demo")
    with pytest.raises(NotFound):
        world.door.set_role(root, "demo", "bob", "admin")

    world.door.remove(root, "demo", "bob")
    assert (world.accounts.claims("bob"), world.member("demo", "bob")) == ({}, None)


def test_however_a_join_and_a_removal_meet_the_removal_holds(cloud_world: World) -> None:
    world = cloud_world
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    visitors = [world.visitor(f"bob-{number}") for number in range(6)]
    doors = [world.another_door() for _ in range(3)]

    def join(turn: int, visitor: Requester) -> None:
        with suppress(Removed):
            doors[turn].join(visitor, "demo")

    with ThreadPoolExecutor(12) as pool:
        for visitor in visitors:
            pool.submit(join, 0, visitor)
            pool.submit(doors[1].remove, root, "demo", visitor.uid)
            pool.submit(join, 2, visitor)

    assert [world.accounts.claims(visitor.uid) for visitor in visitors] == [{}] * len(visitors)
    for visitor in visitors:
        with pytest.raises(Removed):
            world.door.join(visitor, "demo")


@pytest.mark.parametrize("claims", [{}, {"apps": {"demo": "editor"}}, {"apps": {"other": "admin"}}])
def test_only_an_admin_of_this_very_app_readmits(world: World, claims: dict[str, Any]) -> None:
    _, bob = removed_bob(world, join="open")
    world.app("other", join="open")
    for visitor in (bob, world.visitor("mallory", claims=claims)):
        with pytest.raises(Forbidden, match="admin"):
            world.door.readmit(visitor, "demo", "bob")
    with pytest.raises(Removed):
        world.door.join(bob, "demo")


def test_a_removal_outlasts_an_erasure_and_names_nobody(world: World) -> None:
    _, bob = removed_bob(world, join="open")
    app = Scope("demo")
    Erasure(ScopedStore(world.store, app)).run("bob")
    left = [(path, world.store.get(path)) for path in world.store.tree(app.root)]
    assert all("bob" not in path and "bob" not in str(document and document.data) for path, document in left)
    with pytest.raises(Removed):
        world.door.join(bob, "demo")


RANKED = ("viewer", "member", "editor", "admin")


@pytest.mark.parametrize("held", RANKED)
@pytest.mark.parametrize("offered", RANKED)
def test_a_join_gives_the_greater_of_two_roles(world: World, held: str, offered: str) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    bob = world.visitor("bob", claims={"apps": {"demo": held}})
    invite = world.door.invite(root, "demo", offered, uses=1, valid_for=timedelta(hours=1))
    greater = max(held, offered, key=RANKED.index)
    assert world.door.join(bob, "demo", invite.code) == greater
    assert world.accounts.claims("bob") == {"apps": {"demo": greater}}
    assert world.door.join(bob, "demo") == greater


@given(st.lists(st.sampled_from(["viewer", "member", "editor", "a", "b", "admin"]), unique=True), st.data())
def test_no_join_lowers_a_role_whatever_roles_an_app_has(listed: list[str], data: st.DataObject) -> None:
    roles = st.sampled_from(["viewer", "member", "editor", "a", "b", "admin"])
    held, offered = data.draw(roles), data.draw(roles)
    policy = Policy.of({**Policy(roles=tuple(listed)).data()})
    got = policy.better(held, offered)
    assert got in {held, offered}
    if held == "admin":
        assert got == "admin"
    if got != held:
        unlisted = held == "member" and "member" not in listed
        assert offered == "admin" or unlisted or listed.index(offered) > listed.index(held)
    assert policy.better(got, held) == got or listed.count(held) == 0


@pytest.mark.parametrize("claims", [{}, {"apps": {"demo": "member"}}, {"apps": {"other": "admin"}}, {"apps": "admin"}])
def test_only_an_admin_of_this_very_app_changes_its_members(world: World, claims: dict[str, Any]) -> None:
    world.app("demo", join="open")
    world.app("other", join="open")
    bob = world.visitor("bob")
    world.door.join(bob, "demo")
    mallory = world.visitor("mallory", claims=claims)
    for attempt in (
        lambda: world.door.set_role(mallory, "demo", "mallory", "admin"),
        lambda: world.door.set_role(mallory, "demo", "bob", "admin"),
        lambda: world.door.remove(mallory, "demo", "bob"),
        lambda: world.door.invite(mallory, "demo", "admin", uses=1, valid_for=timedelta(hours=1)),
    ):
        with pytest.raises(Forbidden, match="admin"):
            attempt()
    assert world.accounts.claims("mallory") == claims
    assert world.accounts.claims("bob") == {"apps": {"demo": "member"}}


def test_an_admin_gives_roles_to_members_and_to_nobody_else(world: World) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    world.door.join(world.visitor("bob", claims={"apps": {"other": "admin"}}), "demo")
    stranger = world.visitor("stranger", claims={"apps": {"other": "member"}})

    world.door.set_role(root, "demo", "bob", "admin")
    assert world.accounts.claims("bob") == {"apps": {"other": "admin", "demo": "admin"}}
    for uid in (stranger.uid, "nobody"):
        with pytest.raises(NotFound):
            world.door.set_role(root, "demo", uid, "admin")
    with pytest.raises(NotFound):
        world.door.remove(root, "demo", "nobody")
    for role in ("", "Admin", "a/b"):
        with pytest.raises(BadRequest):
            world.door.set_role(root, "demo", "bob", role)
    for uid in ("", "..", "a/b", "__x__"):
        with pytest.raises(InvalidId):
            world.door.set_role(root, "demo", uid, "admin")
    assert world.accounts.claims("stranger") == {"apps": {"other": "member"}}


def test_one_who_is_an_admin_no_longer_is_refused_whatever_their_token_says(world: World) -> None:
    world.app("demo", join="open")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    second = world.visitor("second", claims={"apps": {"demo": "admin"}})
    world.door.set_role(root, "demo", "second", "member")
    with pytest.raises(Forbidden):
        world.door.set_role(second, "demo", "root", "member")


def test_a_disabled_account_and_a_revoked_token_open_nothing(world: World) -> None:
    world.app("demo", join="open")
    disabled = world.visitor("disabled", disabled=True)
    revoked = world.visitor("revoked", validSince=str(int(time.time()) + 60))
    for visitor in (disabled, revoked, Requester("unknown", None, time.time())):
        with pytest.raises(Forbidden):
            world.door.join(visitor, "demo")
        with pytest.raises(Forbidden):
            world.door.leave(visitor, "demo")


def test_users_of_another_tenant_are_other_users_even_with_the_same_uid(world: World) -> None:
    world.app("demo", join="open")
    world.app("bound", join="open", tenant="acme-x1")
    plain, theirs = world.visitor("ada"), world.visitor("ada", "acme-x1")

    world.door.join(plain, "demo")
    world.door.join(theirs, "bound")
    for visitor, app in [(plain, "bound"), (theirs, "demo"), (replace(theirs, tenant="evil-y2"), "bound")]:
        with pytest.raises(Forbidden):
            world.door.join(visitor, app)

    assert world.accounts.claims("ada") == {"apps": {"demo": "member"}}
    assert world.accounts.claims("ada", "acme-x1") == {"apps": {"bound": "member"}}


def test_a_full_account_is_told_so_and_uses_no_invitation_up(world: World) -> None:
    world.app("demo", join="invite")
    root = world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = world.door.invite(root, "demo", "member", uses=1, valid_for=timedelta(hours=1))
    full = {"beta": True, "apps": {f"app-number-{n}": "member" for n in range(39)}}
    with pytest.raises(TooManyApps, match="39 apps"):
        world.door.join(world.visitor("ada", claims=full), "demo", invite.code)
    assert world.accounts.claims("ada") == full
    assert world.door.join(world.visitor("bob"), "demo", invite.code) == "member"


def test_joins_to_many_apps_at_once_by_several_instances_lose_none(cloud_world: World) -> None:
    apps = [f"app-{number}" for number in range(8)]
    for app in apps:
        cloud_world.app(app, join="open")
    ada = cloud_world.visitor("ada")
    cloud_world.accounts.slow = 0.02
    doors = [cloud_world.another_door() for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: doors[n % 4].join(ada, apps[n]), range(8)))

    assert cloud_world.accounts.claims("ada") == {"apps": dict.fromkeys(apps, "member")}
    assert cloud_world.store.get(f"{LOCKS}/:ada") is None


def test_joining_leaving_and_roles_at_once_end_as_if_one_came_after_the_other(world: World) -> None:
    """Each of ten threads has an app of its own, so that what must be left of it does not depend on the others."""
    for number in range(10):
        world.app(f"app-{number}", join="open")
    ada, root = world.visitor("ada"), world.visitor("root", claims={"apps": {f"app-{n}": "admin" for n in range(10)}})

    def life(number: int) -> None:
        app = f"app-{number}"
        world.door.join(ada, app)
        world.door.set_role(root, app, "ada", "editor")
        if number % 2:
            world.door.leave(ada, app)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(life, range(10)))
    assert world.accounts.claims("ada") == {"apps": {f"app-{n}": "editor" for n in range(0, 10, 2)}}


def test_single_use_invitation_lets_one_of_many_in(cloud_world: World) -> None:
    cloud_world.app("demo", join="invite")
    root = cloud_world.visitor("root", claims={"apps": {"demo": "admin"}})
    invite = cloud_world.door.invite(root, "demo", "member", uses=1, valid_for=timedelta(hours=1))
    crowd = [cloud_world.visitor(f"user-{n}") for n in range(8)]

    def attempt(visitor: Requester) -> bool:
        try:
            cloud_world.door.join(visitor, "demo", invite.code)
        except InviteInvalid:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, crowd)) == 1
    assert sum(cloud_world.accounts.claims(visitor.uid) != {} for visitor in crowd) == 1


def test_a_lock_that_a_crash_left_is_taken_over_after_its_lease_and_not_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.1)
    world.app("demo", join="open")
    ada = world.visitor("ada")
    world.store.commit([Set(f"{LOCKS}/:ada", {"holder": "dead", "until": world.clock() + timedelta(seconds=30)})])
    with pytest.raises(Contention):
        world.door.join(ada, "demo")
    world.ahead = timedelta(seconds=31)
    assert world.door.join(ada, "demo") == "member"


def test_one_who_held_the_lock_too_long_writes_no_claims(world: World) -> None:
    world.app("demo", join="open")
    ada = world.visitor("ada")
    locks = lock.Locks(world.store, LOCKS, world.clock)
    with locks.hold(":ada") as lease:
        world.ahead = timedelta(seconds=lock.LEASE_SECONDS)
        with pytest.raises(Contention):
            lease.check()
        world.door.join(ada, "demo")
        held = world.store.get(f"{LOCKS}/:ada")
    assert held is None
    assert world.accounts.claims("ada") == {"apps": {"demo": "member"}}


def test_waiting_for_a_lock_ends_when_it_is_let_go(world: World) -> None:
    locks = lock.Locks(world.store, LOCKS, world.clock)
    held, order = threading.Event(), []

    def other() -> None:
        held.wait(10)
        with locks.hold("x"):
            order.append("second")

    thread = threading.Thread(target=other)
    thread.start()
    with locks.hold("x"):
        held.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
