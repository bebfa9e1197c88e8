"""The weekly summary: who has it, and what a schedule's run does."""

from datetime import UTC, datetime

from firelaunch import App
from firelaunch.testing.apps import User, enqueue_job, run_jobs, sign_in

from app.summaries import weekly_summary

TODAY = datetime.now(UTC).date().isoformat()


def test_a_plan_that_is_not_paid_for_has_no_summaries(ada: User) -> None:
    for answer in (ada.get("/api/summaries"), ada.post("/api/summaries")):
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "feature_missing")


def test_a_summary_counts_what_its_user_ate(app: App) -> None:
    ada, bob = sign_in(app, "ada", plan="pro"), sign_in(app, "bob", plan="pro")
    ada.post("/api/meals", {"name": "Soup", "kcal": 300, "day": TODAY})
    ada.post("/api/meals", {"name": "Long ago", "kcal": 5000, "day": "2020-01-01"})
    bob.post("/api/meals", {"name": "Cake", "kcal": 900, "day": TODAY})
    run_jobs(app)
    job = ada.post("/api/summaries").get_json()["job"]
    assert [(each.id, each.state) for each in run_jobs(app)] == [(job, "succeeded")]
    assert [summary["kcal"] for summary in ada.get("/api/summaries").get_json()["items"]] == [300]
    assert bob.get("/api/summaries").get_json()["items"] == []


def test_the_schedule_pays_for_no_summary_of_a_plan_without_them(app: App, ada: User) -> None:
    ada.post("/api/meals", {"name": "Soup", "kcal": 300, "day": TODAY})
    job = enqueue_job(app, "ada", weekly_summary)
    assert job.id in [each.id for each in run_jobs(app) if each.state == "succeeded"]
    sign_in(app, "ada", plan="pro")
    assert ada.get("/api/summaries").get_json()["items"] == []
    assert ada.get("/v1/usage").get_json()["input_tokens"] == 0


def test_who_ate_nothing_gets_no_summary(app: App) -> None:
    ada = sign_in(app, "ada", plan="pro")
    ada.post("/api/summaries")
    assert [each.state for each in run_jobs(app)] == ["succeeded"]
    assert ada.get("/api/summaries").get_json()["items"] == []
