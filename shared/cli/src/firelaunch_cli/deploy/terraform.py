"""The table of names and settings as Terraform's variables: ``deploy/terraform`` holds no name of its own.

And the steps of a deploy that leaves to Terraform what these make.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from firelaunch.settings.app import Settings

from .calls import EVENTS, PUBLISHER, SUBSCRIPTION, Calls, UploadSubscription, app_calls
from .data import wanted_indexes
from .declarations import Declarations
from .functions import AppFunctions, app_functions, membership_service
from .iam import condition_of
from .resources import (
    ACCOUNT_USER,
    APIS,
    BUILDER,
    BUILDER_ROLE,
    DEFAULT_DATABASE,
    DEPLOYER,
    ENQUEUER,
    FEATURE_APIS,
    FEATURE_PERMISSIONS,
    FEDERATION_APIS,
    PERMISSIONS,
    QUEUE,
    QUOTA_VIEWER,
    REPOSITORY,
    SECRET_READER,
    Place,
    Role,
    Schedule,
    Service,
    app_service,
    features,
)
from .sign_in import permissions
from .spending_alert import THRESHOLDS, alert_name
from .steps import Step, nothing
from .vertex import INDEX, LABEL, NODE, OwnIndex, own_index
from .vertex import PERMISSIONS as OF_INDEXES

__all__ = ["left_to_terraform", "variables"]

_MEND = "firelaunch terraform && terraform -chdir=deploy/terraform apply"


def left_to_terraform(step: Step) -> Step:
    """Return the step as one that refuses if something is missing. A step that only looks is unchanged."""
    if step.lacks is nothing:
        return step

    def refuses(answers: Sequence[Any]) -> str | None:
        missing = "this is left to Terraform, and is not there or not as in the settings"
        return step.refuses(answers) or (missing if list(step.lacks(answers)) else None)

    mend = f"{_MEND}; where that does not make it: {step.mend}" if step.mend else _MEND
    return replace(step, lacks=nothing, refuses=refuses, asks=lambda _: None, mend=mend)


def variables(place: Place, apps: Iterable[tuple[Settings, Declarations]], indexes: Path) -> dict[str, Any]:
    """The variables of ``deploy/terraform``.

    The project's number is only known there, so that ``PROJECT_NUMBER`` stands for it.

    Args:
        apps: the settings of the apps of this project, each with what the app declares.
        indexes: ``firestore.indexes.json``.
    """
    declared = sorted(apps, key=lambda each: each[0].app.id)
    settings = [app for app, _ in declared]
    dedicated = frozenset(app.database for app in settings) - {DEFAULT_DATABASE}
    door = membership_service(place, frozenset())
    topics = {uploads.topic for app, own in declared for calls in _calls(app, place, own) for uploads in calls.uploads}
    has_index = any(own_index(app) for app in settings)
    used = dict.fromkeys(name for app, own in declared for name in features(app, own))
    return {
        "project": {
            "id": place.project,
            "region": place.region,
            "apis": [*APIS, *(FEATURE_APIS[name] for name in used)],
            "repository": REPOSITORY,
            "builder": {"account": BUILDER, **_account(place, "builds images", (Role(BUILDER_ROLE),))},
            "databases": {
                name: _database(indexes, [each for each in declared if each[0].database == name])
                for name in (DEFAULT_DATABASE, *sorted(dedicated))
            },
            "topics": sorted(topics),
            "publisher": PUBLISHER,
            "alert": {
                "name": alert_name(place.project),
                "amount": max((app.cloud.monthly_alert for app in settings), default=0),
                "thresholds": list(THRESHOLDS),
            },
            "deployer": {
                "account": DEPLOYER,
                "roles": sorted(
                    {
                        *(*PERMISSIONS.values(), QUOTA_VIEWER, *(OF_INDEXES.values() if has_index else ())),
                        *(role for name in used for role in FEATURE_PERMISSIONS.get(name, {}).values()),
                        *(role for app in settings for role in permissions(app).values()),
                    }
                ),
                "apis": list(FEDERATION_APIS),
            },
        },
        "services": {
            **{
                app.app.id: _service(
                    place,
                    app_service(app, place, own),
                    app_functions(app, place),
                    own_index(app),
                    _calls(app, place, own),
                )
                for app, own in declared
            },
            door.name: _service(place, door, None, None, []),
        },
        "settings": {
            "queue": {key.replace("-", "_"): value for key, value in QUEUE.items()},
            "uploads": dict(SUBSCRIPTION),
            "index": {"label": LABEL, **INDEX, **NODE},
            "secret_reader": SECRET_READER,
            "enqueuer": ENQUEUER,
            "account_user": ACCOUNT_USER,
        },
    }


def _calls(settings: Settings, place: Place, declared: Declarations) -> list[Calls]:
    """Return what calls an app's functions and the app itself."""
    functions, own = app_functions(settings, place), app_calls(settings, place, declared)
    return [*([functions.calls] if functions else []), *([own] if own else [])]


def _service(
    place: Place, service: Service, functions: AppFunctions | None, index: OwnIndex | None, calls: Sequence[Calls]
) -> dict[str, Any]:
    work = service.work
    schedules = [each for called in calls for each in called.schedules]
    return {
        **_account(place, f"runs {service.name}", service.roles),
        "account": service.account,
        "index": {"name": index.name, "deployed": index.deployed, "dimensions": index.dimensions} if index else None,
        "secrets": {**service.secrets, **(functions.service.secrets if functions else {})},
        "work": None
        if work is None
        else {
            "queue": work.queue,
            "account": work.account,
            **_account(place, f"brings jobs to {service.name}", work.roles),
            "schedules": [_schedule(each) for each in (work.sweep, *schedules)],
            "uploads": dict(_uploads(service.name, each) for called in calls for each in called.uploads),
        },
    }


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "zone": schedule.zone or None,
        "retries": schedule.retries,
        "url": schedule.url,
        "path": schedule.path,
        "deadline": schedule.deadline,
    }


def _uploads(service: str, uploads: UploadSubscription) -> tuple[str, dict[str, str]]:
    """Return a subscription by its key in Terraform's state: the app's for its functions, with a handler's for that."""
    handler = uploads.path.removeprefix(EVENTS)
    return f"{service}/{handler}" if handler != uploads.path else service, {
        "topic": uploads.topic,
        "subscription": uploads.subscription,
        "filter": uploads.only,
        "url": uploads.url,
        "path": uploads.path,
    }


def _account(place: Place, does: str, roles: Iterable[Role]) -> dict[str, Any]:
    held = [{"role": role.name, "condition": condition_of(place, role)} for role in roles]
    return {"title": f"firelaunch: {does}", "roles": held}


def _database(file: Path, declared: Sequence[tuple[Settings, Declarations]]) -> dict[str, Any]:
    apps = [app for app, _ in declared]
    vectors = {(app.embedding.length, app.index.filters) for app in apps if app.index.backend == "firestore"}
    searched = sorted((length, tags) for length, tags in vectors if length)
    own = [index for _, declarations in declared for index in declarations.indexes]
    every = [wanted_indexes(file, length, tags, own) for length, tags in searched or [(0, ())]]
    unique = {json.dumps(index, sort_keys=True): index for wanted in every for index in wanted["indexes"]}
    return {
        "point_in_time": any(app.cloud.point_in_time for app in apps),
        "backup_days": max((app.cloud.backup_days for app in apps), default=0),
        "indexes": [_index(index) for index in unique.values()],
        "overrides": [
            {"collection": item["collectionGroup"], "field": item["fieldPath"], "ttl": bool(item.get("ttl"))}
            for item in every[0]["fieldOverrides"]
        ],
    }


def _index(index: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "collection": index["collectionGroup"],
        "scope": index["queryScope"],
        "fields": [
            {
                "path": field["fieldPath"],
                "order": field.get("order"),
                "array": field.get("arrayConfig"),
                "dimension": field.get("vectorConfig", {}).get("dimension"),
            }
            for field in index["fields"]
        ],
    }
