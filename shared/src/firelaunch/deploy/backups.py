"""Backups of an app's database: point-in-time recovery, and a daily schedule. :mod:`.restore` brings data back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..settings_sections import Cloud
from .names import Place
from .steps import Action, Step
from .tools import Request, gcloud

__all__ = ["backups", "daily_schedule", "retention_days"]

_FIRESTORE = "https://firestore.googleapis.com/v1"
_DAY = 86_400


def backups(place: Place, database: str, cloud: Cloud) -> Step:
    """Turn on point-in-time recovery and make a daily schedule, where a database has none.

    A database may have one daily and one weekly schedule
    (https://cloud.google.com/firestore/docs/backups). The ``(default)`` one may be shared with other apps, so what is
    there is never changed; a retention that the settings name and that differs is worth a warning.
    """
    whole = f"{_FIRESTORE}/projects/{place.project}/databases/{database}"

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        enablement = (answers[0] or {}).get("pointInTimeRecoveryEnablement")
        if cloud.point_in_time and enablement != "POINT_IN_TIME_RECOVERY_ENABLED":
            yield gcloud(
                *("firestore", "databases", "update", f"--database={database}", "--enable-pitr"), project=place.project
            )
        if cloud.backup_days and daily_schedule(answers[1]) is None:
            yield gcloud(
                *("firestore", "backups", "schedules", "create", f"--database={database}"),
                *("--recurrence=daily", f"--retention={cloud.backup_days}d"),
                project=place.project,
                exists_ok=True,
            )

    def warns(answers: Sequence[Any]) -> str | None:
        there = daily_schedule(answers[1])
        if there is None or "backup_days" not in cloud.model_fields_set or not cloud.backup_days:
            return None
        days = retention_days(there)
        if days == cloud.backup_days:
            return None
        update = gcloud(
            *("firestore", "backups", "schedules", "update", f"--database={database}"),
            *(f"--backup-schedule={there['name'].rpartition('/')[2]}", f"--retention={cloud.backup_days}d"),
            project=place.project,
        )
        return (
            f"daily backups of {database} are kept {days:g} days and cloud.backup_days is {cloud.backup_days}; other "
            f"apps may count on it, so that it stays. To change it: {update}"
        )

    return Step(
        f"backups of {database}",
        (Request("GET", whole), Request("GET", f"{whole}/backupSchedules")),
        lacks=lacks,
        warns=warns,
        mend=f"ask for roles/datastore.owner in {place.project}; to go without: cloud.point_in_time = false and "
        "cloud.backup_days = 0 in firelaunch.toml",
    )


def daily_schedule(listed: Any) -> Mapping[str, Any] | None:
    """Find the daily schedule in the API's list of a database's schedules."""
    return next((item for item in (listed or {}).get("backupSchedules", []) if "dailyRecurrence" in item), None)


def retention_days(schedule: Mapping[str, Any]) -> float:
    """Days that a schedule's backups are kept."""
    return float(str(schedule["retention"]).removesuffix("s")) / _DAY
