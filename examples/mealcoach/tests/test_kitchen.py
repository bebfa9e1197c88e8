"""Kitchens: members share dishes by role, nobody else sees them, and an erased cook is named no more."""

from firelaunch import App
from firelaunch.testing.apps import User, run_jobs, sign_in

CURRY = {"name": "Lentil curry", "servings": 4, "day": "2026-03-02"}


def new_kitchen(owner: User, **members: User) -> str:
    """Make a kitchen with one member of each role that is named, and return the path of its dishes."""
    group = owner.post("/v1/groups", {"name": "Our kitchen"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        assert user.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    return f"/api/groups/{group}/dishes"


def test_a_kitchen_plans_dishes_by_role_and_nobody_else_sees_them(app: App, ada: User) -> None:
    bob, cat, eve = (sign_in(app, uid) for uid in ("bob", "cat", "eve"))
    dishes = new_kitchen(ada, editor=bob, viewer=cat)
    curry = bob.post(dishes, CURRY)
    assert (curry.status_code, curry.get_json()["cook"]) == (201, "bob")
    for user in (ada, bob, cat):
        assert [dish["name"] for dish in user.get(dishes).get_json()["items"]] == ["Lentil curry"]
    assert cat.post(dishes, CURRY).status_code == 403
    assert eve.get(dishes).status_code == eve.post(dishes, CURRY).status_code == 404
    assert ada.get(f"{dishes}?cook=bob&order=-day").get_json()["items"] == [curry.get_json()]


def test_a_kitchens_dishes_are_found_by_its_members(app: App, ada: User) -> None:
    eve = sign_in(app, "eve")
    dishes = new_kitchen(ada)
    ada.post(dishes, CURRY)
    run_jobs(app)
    question = {"query": "lentil curry", "group": dishes.split("/")[3]}
    [passage] = ada.post("/v1/search", question).get_json()["passages"]
    assert passage["record"]["collection"] == "dishes"
    assert eve.post("/v1/search", question).status_code == 404


def test_a_dish_stays_and_names_nobody_once_its_cook_is_erased(app: App, ada: User) -> None:
    bob = sign_in(app, "bob")
    dishes = new_kitchen(ada, editor=bob)
    bob.post(dishes, CURRY)
    assert bob.delete("/v1/me").status_code == 202
    run_jobs(app)
    [dish] = ada.get(dishes).get_json()["items"]
    assert (dish["name"], dish["cook"]) == ("Lentil curry", None)


def test_a_kitchen_talks_with_the_coach_together(app: App, ada: User) -> None:
    bob, eve = sign_in(app, "bob"), sign_in(app, "eve")
    group = new_kitchen(ada, editor=bob).split("/")[3]
    chat = ada.post("/v1/chats", {"group": group}).get_json()["id"]
    assert ada.post(f"/v1/chats/{chat}/messages", {"text": "What shall we cook?", "group": group}).status_code == 200
    assert "What shall we cook?" in bob.get(f"/v1/chats/{chat}?group={group}").text
    assert eve.get(f"/v1/chats/{chat}?group={group}").status_code == 404
