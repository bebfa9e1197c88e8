"""Two users on the Firestore emulator, under the rules that a deploy puts in force. Skipped where there is none."""

from pathlib import Path

import pytest
from firelaunch.testing.apps import run_jobs, sign_in
from firelaunch.testing.emulator import Emulator
from firelaunch_cli.testing import FirestoreApp
from google.api_core.exceptions import PermissionDenied

from app import ROOT, create_app


@pytest.fixture
def firestore(firestore_emulator: Emulator, firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> FirestoreApp:
    """The app's rules in force in an empty project."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # Google's library looks nowhere else
    return FirestoreApp.start(firestore_emulator, firestore_project, ROOT)


def test_what_a_user_says_is_read_by_nobody_else(firestore: FirestoreApp, tmp_path: Path) -> None:
    app = create_app({**firestore.environ, "FIRELAUNCH_DATA": str(tmp_path)})
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    chat = ada.new_chat()
    assert ada.send(chat, "My secret is blue").status_code == 200
    # Over the API
    assert "My secret is blue" in ada.get(f"/v1/chats/{chat}").text
    assert bob.get(f"/v1/chats/{chat}").status_code == 404
    assert bob.get("/v1/chats").get_json()["items"] == []
    # Past it, as a page that talks to Firestore itself
    chats = f"{firestore.root}/users/ada/chats"
    assert firestore.browser("ada").document(f"{chats}/{chat}").get().exists
    messages = firestore.browser("ada").collection(f"{chats}/{chat}/messages").get()
    assert "My secret is blue" in [message.get("text") for message in messages]
    strangers = (firestore.browser("bob"), firestore.browser("bob", "admin"), firestore.browser(None))
    for client in (*strangers, firestore.browser("ada", role=None)):
        with pytest.raises(PermissionDenied):
            client.document(f"{chats}/{chat}").get()
        with pytest.raises(PermissionDenied):
            client.collection(f"{chats}/{chat}/messages").get()


def test_a_browser_writes_nothing_that_the_service_counts_by(firestore: FirestoreApp) -> None:
    ada = firestore.browser("ada")
    for path in ("users/ada", "users/ada/chats/mine", "users/ada/usage/2026-01-01", "members/ada"):
        with pytest.raises(PermissionDenied):
            ada.document(f"{firestore.root}/{path}").set({"plan": "pro", "role": "admin"})


def test_a_diary_is_its_users_on_firestore_too(firestore: FirestoreApp, tmp_path: Path) -> None:
    app = create_app({**firestore.environ, "FIRELAUNCH_DATA": str(tmp_path)})
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    meal = ada.post("/api/meals", {"name": "Soup", "kcal": 300, "kind": "lunch", "day": "2026-03-02"}).get_json()["id"]
    assert ada.put(f"/api/meals/{meal}/picture", b"jpeg", Content_Type="image/jpeg").status_code == 204
    assert ada.get("/api/meals?kind=lunch&order=-day").get_json()["items"][0]["id"] == meal
    assert bob.get(f"/api/meals/{meal}").status_code == 404
    run_jobs(app)
    assert ada.get("/api/days/2026-03-02").get_json()["kcal"] == 300
    # A page reads its user's meals and days in Firestore itself, and writes none
    for path in (f"meals/{meal}", "days/2026-03-02"):
        document = f"{firestore.root}/users/ada/{path}"
        assert firestore.browser("ada").document(document).get().exists
        for stranger in (firestore.browser("bob"), firestore.browser("bob", "admin"), firestore.browser(None)):
            with pytest.raises(PermissionDenied):
                stranger.document(document).get()
        with pytest.raises(PermissionDenied):
            firestore.browser("ada").document(document).update({"kcal": 1})


def test_a_kitchens_dishes_are_its_members_on_firestore_too(firestore: FirestoreApp, tmp_path: Path) -> None:
    app = create_app({**firestore.environ, "FIRELAUNCH_DATA": str(tmp_path)})
    ada, bob, eve = (sign_in(app, uid) for uid in ("ada", "bob", "eve"))
    group = ada.post("/v1/groups", {"name": "Our kitchen"}).get_json()["id"]
    code = ada.post(f"/v1/groups/{group}/invites", {"role": "viewer"}).get_json()["invite"]
    assert bob.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    curry = {"name": "Curry", "servings": 4, "day": "2026-03-02"}
    dish = ada.post(f"/api/groups/{group}/dishes", curry).get_json()["id"]
    assert eve.get(f"/api/groups/{group}/dishes/{dish}").status_code == 404
    document = f"{firestore.root}/groups/{group}/dishes/{dish}"
    for member in ("ada", "bob"):
        assert firestore.browser(member).document(document).get().get("name") == "Curry"
        with pytest.raises(PermissionDenied):
            firestore.browser(member).document(document).update({"servings": 1})
    ada.delete(f"/v1/groups/{group}/members/bob")
    for stranger in ("bob", "eve", None):  # Bob holds the token that he had
        with pytest.raises(PermissionDenied):
            firestore.browser(stranger).document(document).get()


def test_a_page_keeps_favourites_of_its_own_user_and_nothing_else_in_them(firestore: FirestoreApp) -> None:
    ada, bob = firestore.browser("ada"), firestore.browser("bob")
    favourite = f"{firestore.root}/users/ada/favourites/soup"
    ada.document(favourite).set({"name": "Soup", "kcal": 300})
    assert ada.document(favourite).get().to_dict() == {"name": "Soup", "kcal": 300}
    for fields in ({"name": "x" * 201, "kcal": 1}, {"name": "Soup", "kcal": "1"}, {"name": "Soup", "kcal": 1, "x": 1}):
        with pytest.raises(PermissionDenied):
            ada.document(favourite).set(fields)
    with pytest.raises(PermissionDenied):
        bob.document(favourite).get()
    with pytest.raises(PermissionDenied):
        bob.document(favourite).set({"name": "Mine", "kcal": 1})
