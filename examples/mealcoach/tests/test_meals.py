"""The diary: whose it is, what it counts, and what a sentence becomes."""

from pathlib import Path

from firelaunch import App
from firelaunch.testing.apps import User, run_jobs, sign_in
from firelaunch.testing.documented import watch
from firelaunch.testing.indexes import missing_indexes
from firelaunch.testing.models import ModelServer, Reply

from app import ROOT, create_app, days, meals, summaries

LUNCH = {"name": "Soup", "kcal": 300, "kind": "lunch", "day": "2026-03-02"}


def test_a_meal_is_there_for_its_user_alone(app: App, ada: User) -> None:
    meal = f"/api/meals/{ada.post('/api/meals', LUNCH).get_json()['id']}"
    bob = sign_in(app, "bob")
    assert ada.get(meal).get_json()["name"] == "Soup"
    assert bob.get("/api/meals").get_json()["items"] == []
    for answer in (
        bob.get(meal),
        bob.patch(meal, {"kcal": 1}),
        bob.get(f"{meal}/picture"),
        bob.put(f"{meal}/picture", b"jpeg", Content_Type="image/jpeg"),
    ):
        assert answer.status_code == 404
    assert bob.delete(meal).status_code == 204  # as for a meal that is not there
    answer = ada.get(meal)
    assert (answer.status_code, answer.get_json()["kcal"]) == (200, 300)


def test_a_cursor_leads_nobody_into_anothers_diary(app: App, ada: User) -> None:
    for _ in range(2):
        ada.post("/api/meals", LUNCH)
    cursor = ada.get("/api/meals?limit=1").get_json()["next_cursor"]
    assert len(ada.get(f"/api/meals?limit=1&cursor={cursor}").get_json()["items"]) == 1
    answer = sign_in(app, "bob").get(f"/api/meals?limit=1&cursor={cursor}")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_cursor")


def test_what_is_no_meal_is_refused_by_the_name_of_its_field(ada: User) -> None:
    for wrong in ({"kcal": -1}, {"kind": "feast"}, {"day": "yesterday"}, {"name": ""}):
        answer = ada.post("/api/meals", {**LUNCH, **wrong})
        assert answer.status_code == 400
        assert answer.get_json()["error"]["message"].startswith(f"{next(iter(wrong))}:")


def test_a_day_counts_the_meals_that_are_on_it_now(app: App, ada: User) -> None:
    def days() -> dict[str, tuple[int, int]]:
        run_jobs(app)
        return {day["id"]: (day["kcal"], day["meals"]) for day in ada.get("/api/days").get_json()["items"]}

    meal = f"/api/meals/{ada.post('/api/meals', LUNCH).get_json()['id']}"
    ada.post("/api/meals", {**LUNCH, "kcal": 200})
    assert days() == {"2026-03-02": (500, 2)}
    ada.patch(meal, {"day": "2026-03-03"})
    assert days() == {"2026-03-02": (200, 1), "2026-03-03": (300, 1)}
    ada.delete(meal)
    assert days() == {"2026-03-02": (200, 1), "2026-03-03": (0, 0)}


def test_a_sentence_becomes_a_meal_and_is_paid_by_its_user(tmp_path: Path) -> None:
    with ModelServer(Reply(['{"name": "Pizza", "kcal": 900, "kind": "dinner"}'])) as model:
        app = create_app(
            {"FIRELAUNCH_DATA": str(tmp_path), "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": model.base_url}
        )
        ada = sign_in(app, "ada")
        answer = ada.post("/api/meals/from-text", {"text": "A whole pizza", "day": "2026-03-02"})
    assert answer.status_code == 201, answer.get_json()
    assert ada.get("/api/meals?kind=dinner").get_json()["items"] == [answer.get_json()]
    assert (answer.get_json()["name"], answer.get_json()["kcal"]) == ("Pizza", 900)
    assert ada.get("/v1/usage").get_json()["cost_micro_usd"] > 0
    assert sign_in(app, "bob").get("/v1/usage").get_json()["cost_micro_usd"] == 0


def test_a_meals_picture_is_kept_and_replaced(ada: User) -> None:
    picture = f"/api/meals/{ada.post('/api/meals', LUNCH).get_json()['id']}/picture"
    assert ada.get(picture).status_code == 404
    for content in (b"\xff\xd8 first", b"\xff\xd8 second"):
        assert ada.put(picture, content, Content_Type="image/jpeg").status_code == 204
    answer = ada.get(picture)
    assert (answer.data, answer.mimetype) == (b"\xff\xd8 second", "image/jpeg")
    assert ada.put(picture, b"<script>", Content_Type="text/html").status_code == 400
    large = b"\xff\xd8" * 2_000_000
    assert ada.put(picture, large, Content_Type="image/jpeg").status_code == 204
    assert ada.get(picture).data == large
    assert ada.put(picture, b"x" * 10_000_001, Content_Type="image/jpeg").status_code == 413


def test_a_meals_picture_goes_with_the_meal(app: App, ada: User) -> None:
    meal = f"/api/meals/{ada.post('/api/meals', LUNCH).get_json()['id']}"
    ada.put(f"{meal}/picture", b"jpeg", Content_Type="image/jpeg")
    ada.patch(meal, {"kcal": 1})
    run_jobs(app)
    assert ada.get(f"{meal}/picture").data == b"jpeg"
    ada.delete(meal)
    run_jobs(app)
    assert ada.get(f"{meal}/picture").status_code == 404


def test_the_document_of_routes_tells_the_truth(app: App) -> None:
    problems = watch(app)
    ada = sign_in(app, "ada", plan="pro")
    meal = ada.post("/api/meals", LUNCH).get_json()["id"]
    ada.post("/api/meals/from-text", {"text": "Pizza", "day": "2026-03-02"})
    ada.put(f"/api/meals/{meal}/picture", b"jpeg", Content_Type="image/jpeg")
    for path in ("meals", f"meals/{meal}", "meals/none", "meals?kind=feast", "days", "summaries", "summaries/none"):
        ada.get(f"/api/{path}")
    assert problems == []


def test_every_query_has_its_index() -> None:
    own = (meals.meals, days.days, summaries.summaries)
    assert missing_indexes(ROOT / "app", own) == []
