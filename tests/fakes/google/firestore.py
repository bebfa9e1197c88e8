"""Firestore's databases, documents, indexes and rules, and Vector Search's collections: what a deploy touches."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from .base import Call, Refusal, Route, done, exists, not_found

__all__ = ["Firestore"]

_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]")
_UUID_LIKE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST_RETENTION = 14 * 7 * 86_400
_ENABLED = "POINT_IN_TIME_RECOVERY_ENABLED"
_DATABASE_TYPE = "type.googleapis.com/google.firestore.admin.v1.Database"


class Firestore:
    """State and routes."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.databases: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        self.indexes: dict[str, list[dict[str, Any]]] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.rulesets: dict[str, dict[str, Any]] = {}
        self.releases: dict[str, str] = {}
        self.released: Callable[[str, str], object] = lambda _name, _text: None
        """Is told of each release and its rules."""
        self._rulesets = 0
        self.polls = 1
        """How often an operation is asked for before it has come to its end."""
        self.keep_building = False
        """Whether indexes stay in the making, as in a database that holds much."""
        self._running: dict[str, int] = {}
        self.schedules: dict[str, list[dict[str, Any]]] = {}
        self.backups: dict[str, dict[str, Any]] = {}
        """Backups by their whole names."""
        self.kept: dict[str, dict[str, Any]] = {}
        """What a backup holds: documents and indexes, by the backup's whole name."""
        self.billing: Callable[[], bool] = lambda: True
        """Whether the project has a billing account, without which nothing is kept."""
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.pitr_since: dict[str, datetime] = {}
        """When point-in-time recovery was turned on, by database."""
        self.history: dict[str, list[tuple[datetime, dict[str, Any]]]] = {}
        """Earlier states of a database's documents; the last one that is not after a time is what it was then."""

    def rules_of(self, database: str) -> str | None:
        """The text in force for a database."""
        names = [f"cloud.firestore/{database}", *(["cloud.firestore"] if database == "(default)" else [])]
        return next((self.text(name) for name in names if name in self.releases), None)

    def text(self, release: str) -> str:
        """The rules of a release."""
        content: str = self.rulesets[self.releases[release]]["source"]["files"][0]["content"]
        return content

    def release(self, name: str, text: str) -> None:
        """Put rules in force."""
        ruleset = f"projects/{self.project}/rulesets/{len(self.rulesets) + 1}"
        self.rulesets[ruleset] = {
            "name": ruleset,
            "source": {"files": [{"name": "firestore.rules", "content": text}]},
        }
        self.releases[name] = ruleset

    def routes(self) -> list[Route]:
        """Every route."""
        base = f"firestore.googleapis.com/v1/projects/{self.project}/databases"
        places = f"firestore.googleapis.com/v1/projects/{self.project}/locations"
        vectors = f"vectorsearch.googleapis.com/v1/projects/{self.project}/locations/[^/]+/collections"
        rules = f"firebaserules.googleapis.com/v1/projects/{self.project}"
        return [
            Route("GET", base, lambda _: {"databases": list(self.databases.values())}, "datastore.databases.list"),
            Route("POST", base, self._create, "datastore.databases.create"),
            Route("GET", base + "/([^/]+)", self._show_database, "datastore.databases.getMetadata"),
            Route("PATCH", base + "/([^/]+)", self._update_database, "datastore.databases.update"),
            Route("DELETE", base + "/([^/]+)", self._delete, "datastore.databases.delete"),
            Route("GET", base + "/([^/]+)/operations", self._list_operations, "datastore.operations.list"),
            Route("POST", base + ":restore", self._restore, "datastore.backups.restoreDatabase"),
            Route("POST", base + ":clone", self._clone, "datastore.databases.clone"),
            Route("GET", base + "/([^/]+)/backupSchedules", self._list_schedules, "datastore.backupSchedules.list"),
            Route("POST", base + "/([^/]+)/backupSchedules", self._schedule, "datastore.backupSchedules.create"),
            Route(
                *("PATCH", base + "/([^/]+)/backupSchedules/([^/]+)"),
                *(self._update_schedule, "datastore.backupSchedules.update"),
            ),
            Route("GET", places + "/([^/]+)/backups", self._list_backups, "datastore.backups.list"),
            Route("GET", places + "/([^/]+)/backups/([^/]+)", self._backup, "datastore.backups.get"),
            Route("GET", base + "/([^/]+)/operations/done", lambda *_: done({}), "datastore.operations.get"),
            Route("GET", base + "/([^/]+)/operations/([^/]+)", self._operation, "datastore.operations.get"),
            Route("GET", base + "/([^/]+)/documents/(.+)", self._document, "datastore.entities.get"),
            Route("PATCH", base + "/([^/]+)/documents/(.+)", self._write, "datastore.entities.update"),
            Route("GET", base + "/([^/]+)/collectionGroups/-/indexes", self._list_indexes, "datastore.indexes.list"),
            Route("POST", base + "/([^/]+)/collectionGroups/([^/]+)/indexes", self._index, "datastore.indexes.create"),
            Route("GET", base + "/([^/]+)/collectionGroups/-/fields", self._list_fields, "datastore.indexes.list"),
            Route(
                "PATCH",
                base + "/([^/]+)/collectionGroups/([^/]+)/fields/([^/]+)",
                self._field,
                "datastore.indexes.update",
            ),
            Route("GET", rules + "/releases", self._list_releases, "firebaserules.releases.list"),
            Route("GET", rules + "/releases/(.+)", self._release, "firebaserules.releases.get"),
            Route("POST", rules + "/releases", self._create_release, "firebaserules.releases.create"),
            Route("PATCH", rules + "/releases/(.+)", self._update_release, "firebaserules.releases.update"),
            Route("DELETE", rules + "/releases/(.+)", self._delete_release, "firebaserules.releases.delete"),
            Route("GET", rules + "/rulesets", self._list_rulesets, "firebaserules.rulesets.list"),
            Route("DELETE", rules + "/rulesets/(.+)", self._delete_ruleset, "firebaserules.rulesets.delete"),
            Route("GET", rules + "/rulesets/(.+)", self._ruleset, "firebaserules.rulesets.get"),
            Route("GET", vectors + "/([^/]+)", self._collection, "vectorsearch.collections.get"),
            Route("POST", vectors, self._create_collection, "vectorsearch.collections.create"),
            Route("POST", rules + "/rulesets", self._create_ruleset, "firebaserules.rulesets.create"),
        ]

    def back_up(self, database: str, at: datetime, days: int = 7) -> str:
        """Make a backup, as a schedule does, and give its whole name. It holds documents and indexes; neither rules
        nor TTL policies (https://cloud.google.com/firestore/docs/backups)."""
        location = self.databases[database]["locationId"]
        name = f"projects/{self.project}/locations/{location}/backups/b{len(self.backups) + 1}"
        self.backups[name] = {
            "name": name,
            "database": f"projects/{self.project}/databases/{database}",
            "databaseUid": self.databases[database]["uid"],
            "snapshotTime": _timestamp(at),
            "expireTime": _timestamp(at + timedelta(days=days)),
            "state": "READY",
        }
        self.kept[name] = self._state(database)
        return name

    def remember(self, database: str, at: datetime) -> None:
        """Keep how a database's documents are, as its state from a time on."""
        self.history.setdefault(database, []).append((at, self._state(database)))

    def _state(self, database: str) -> dict[str, Any]:
        return {
            "documents": {
                name.partition("/")[2]: dict(fields)
                for name, fields in self.documents.items()
                if name.startswith(f"{database}/")
            },
            "indexes": [dict(index) for index in self.indexes.get(database, [])],
        }

    def _create(self, call: Call) -> Any:
        if call.json.get("pointInTimeRecoveryEnablement") == _ENABLED:
            self._check_billing()
        return self._made(call.query["databaseId"], call.json)

    def _made(self, name: str, settings: dict[str, Any]) -> Any:
        if not _DATABASE.fullmatch(name) or _UUID_LIKE.fullmatch(name):
            raise Refusal(400, "INVALID_ARGUMENT", f"Database ID {name} is not valid.")
        if name in self.databases:
            # https://github.com/firebase/firebase-tools/issues/6862
            raise Refusal(409, "ALREADY_EXISTS", "Database already exists. Please use another database_id")
        whole = f"projects/{self.project}/databases/{name}"
        self.databases[name] = {"name": whole, "uid": name, **settings}
        if settings.get("pointInTimeRecoveryEnablement") == _ENABLED:
            self.pitr_since[name] = self.now()
        return {**done(self.databases[name], _DATABASE_TYPE), "name": f"{whole}/operations/done"}

    def _check_billing(self) -> None:
        """Point-in-time recovery and backups take a billing account
        (https://cloud.google.com/firestore/docs/use-pitr#enable)."""
        if not self.billing():
            raise Refusal(400, "FAILED_PRECONDITION", "This operation requires billing to be enabled on the project.")

    def _show_database(self, call: Call, name: str) -> Any:
        return {**self._database(call, name), "earliestVersionTime": _timestamp(self.earliest(name))}

    def earliest(self, name: str) -> datetime:
        """The earliest version of a database's data: of the last hour without point-in-time recovery, and of 7 days
        with it, but none from before it was turned on, less an hour
        (https://cloud.google.com/firestore/docs/pitr#pitr-window)."""
        hour_ago = self.now() - timedelta(hours=1)
        since = self.pitr_since.get(name)
        return hour_ago if since is None else max(self.now() - timedelta(days=7), since - timedelta(hours=1))

    def _update_database(self, call: Call, name: str) -> Any:
        database = self._database(call, name)
        mask = call.query.get("updateMask", "").split(",")
        wanted = {key: value for key, value in call.json.items() if key in mask or mask == [""]}
        if wanted.get("pointInTimeRecoveryEnablement") == _ENABLED:
            self._check_billing()
            self.pitr_since.setdefault(name, self.now())
        elif "pointInTimeRecoveryEnablement" in wanted:
            self.pitr_since.pop(name, None)
        database.update(wanted)
        return {**done(database, _DATABASE_TYPE), "name": f"{database['name']}/operations/done"}

    def _delete(self, call: Call, name: str) -> Any:
        database = self._database(call, name)
        if database.get("deleteProtectionState") == "DELETE_PROTECTION_ENABLED":
            raise Refusal(400, "FAILED_PRECONDITION", f"Database {name} has delete protection enabled.")
        del self.databases[name]
        self.documents = {key: value for key, value in self.documents.items() if not key.startswith(f"{name}/")}
        self.fields = {key: value for key, value in self.fields.items() if not key.startswith(f"{name}/")}
        self.indexes.pop(name, None)
        self.schedules.pop(name, None)
        return {**done(database, _DATABASE_TYPE), "name": f"{database['name']}/operations/done"}

    def _list_operations(self, call: Call, database: str) -> Any:
        self._database(call, database)
        running = [name for name in self._running if f"/databases/{database}/" in name]
        return {"operations": [{"name": name, "done": False} for name in running]} if running else {}

    def _list_schedules(self, call: Call, database: str) -> Any:
        self._database(call, database)
        return {"backupSchedules": self.schedules[database]} if self.schedules.get(database) else {}

    def _schedule(self, call: Call, database: str) -> Any:
        """One daily and one weekly one at most (https://cloud.google.com/firestore/docs/backups). With which status a
        second one is refused is not documented; here it is that of other things that are there already."""
        whole, wanted = self._database(call, database)["name"], call.json
        self._check_billing()
        _check_retention(wanted)
        there = self.schedules.setdefault(database, [])
        kind = "dailyRecurrence" if "dailyRecurrence" in wanted else "weeklyRecurrence"
        if any(kind in schedule for schedule in there):
            raise exists(f"A schedule with {kind}")
        now = _timestamp(self.now())
        number = sum(len(each) for each in self.schedules.values()) + 1
        there.append({**wanted, "name": f"{whole}/backupSchedules/s{number}", "createTime": now, "updateTime": now})
        return there[-1]

    def _update_schedule(self, call: Call, database: str, name: str) -> Any:
        there = (item for item in self.schedules.get(database, []) if item["name"].endswith(f"/{name}"))
        schedule = next(there, None)
        if schedule is None:
            raise not_found(f"Backup schedule {name}")
        _check_retention(call.json)
        schedule["retention"] = call.json["retention"]
        return schedule

    def _list_backups(self, _: Call, location: str) -> Any:
        within = "/locations/" if location == "-" else f"/locations/{location}/"
        return {"backups": [backup for name, backup in self.backups.items() if within in name]}

    def _backup(self, _: Call, location: str, name: str) -> Any:
        whole = f"projects/{self.project}/locations/{location}/backups/{name}"
        if whole not in self.backups:
            raise not_found(f"Backup {whole}")
        return self.backups[whole]

    def _restore(self, call: Call) -> Any:
        wanted = call.json
        backup = self.backups.get(wanted["backup"])
        if not wanted["backup"].startswith(f"projects/{self.project}/"):
            raise Refusal(400, "INVALID_ARGUMENT", "The backup must be from the same project as the database.")
        if backup is None:
            raise not_found(f"Backup {wanted['backup']}")
        if backup["state"] != "READY":
            raise Refusal(400, "FAILED_PRECONDITION", f"Backup {backup['name']} is {backup['state']}.")
        location = backup["name"].split("/")[3]
        return self._brought_back(wanted["databaseId"], location, self.kept[backup["name"]])

    def _clone(self, call: Call) -> Any:
        """https://cloud.google.com/firestore/docs/reference/rest/v1/projects.databases/clone"""
        wanted, snapshot = call.json, call.json["pitrSnapshot"]
        source = snapshot["database"].rpartition("/")[2]
        location = self._database(call, source)["locationId"]
        at = datetime.fromisoformat(snapshot["snapshotTime"])
        if at.second or at.microsecond:
            raise Refusal(400, "INVALID_ARGUMENT", "The snapshot time must be a whole minute.")
        if not self.earliest(source) <= at <= self.now():
            raise Refusal(400, "FAILED_PRECONDITION", "The requested snapshot time is outside of the PITR window.")
        states = [state for since, state in self.history.get(source, []) if since <= at]
        return self._brought_back(wanted["databaseId"], location, states[-1] if states else self._state(source))

    def _brought_back(self, name: str, location: str, state: dict[str, Any]) -> Any:
        """A new database with documents and indexes, and nothing else of the old one's."""
        self._made(name, {"locationId": location, "type": "FIRESTORE_NATIVE"})
        self.documents |= {f"{name}/{path}": dict(fields) for path, fields in state["documents"].items()}
        self.indexes[name] = [
            {**index, "name": re.sub(r"/databases/[^/]+/", f"/databases/{name}/", index["name"])}
            for index in state["indexes"]
        ]
        return self._begin(name, "restore")

    def check(self, name: str) -> None:
        """Refuses a database that there is none of."""
        if name not in self.databases:
            raise not_found(f"Database {name}")

    def _database(self, _: Call, name: str) -> Any:
        self.check(name)
        return self.databases[name]

    def _document(self, _: Call, database: str, path: str) -> Any:
        self._database(_, database)
        if f"projects/{self.project}/databases/{database}/operations/restore" in self._running:
            raise Refusal(400, "FAILED_PRECONDITION", f"Database {database} is not readable before it is restored.")
        if f"{database}/{path}" not in self.documents:
            raise not_found(path)
        return {"name": path, "fields": self.documents[f"{database}/{path}"]}

    def _write(self, call: Call, database: str, path: str) -> Any:
        """As the API does it, an empty list comes back without its values."""
        self._database(call, database)
        fields = {
            k: {"arrayValue": {}} if v == {"arrayValue": {"values": []}} else v for k, v in call.json["fields"].items()
        }
        self.documents.setdefault(f"{database}/{path}", {}).update(fields)
        return self._document(call, database, path)

    def _list_indexes(self, call: Call, database: str) -> Any:
        self._database(call, database)
        for index in self.indexes.get(database, []):
            operation = f"projects/{self.project}/databases/{database}/operations/{index['name'].rpartition('/')[2]}"
            if not self._goes_on(operation) and index["state"] == "CREATING" and not self.keep_building:
                index["state"] = "READY"
        return {"indexes": self.indexes.get(database, [])}

    def _begin(self, database: str, name: str) -> dict[str, Any]:
        whole = f"projects/{self.project}/databases/{database}/operations/{name}"
        self._running[whole] = self.polls
        return {"name": whole}

    def _operation(self, _: Call, database: str, name: str) -> Any:
        whole = f"projects/{self.project}/databases/{database}/operations/{name}"
        return {"name": whole, "done": not self._goes_on(whole)}

    def _goes_on(self, operation: str) -> bool:
        """Whether an operation runs; each question brings it nearer to its end, whoever asks and for whatever."""
        self._running[operation] = self._running.get(operation, 0) - 1
        if self._running[operation] <= 0:
            del self._running[operation]
        return operation in self._running

    def _check_idle(self, database: str) -> None:
        """One change of a database's indexes and fields at a time
        (https://github.com/hashicorp/terraform-provider-google/issues/16599)."""
        running = [operation for operation in self._running if f"/databases/{database}/" in operation]
        for operation in running:
            self._goes_on(operation)
        if running:
            raise Refusal(
                *(409, "ABORTED"),
                "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt to access "
                "the same data, requiring Firestore to abort at least one in order to enforce serializability.",
            )

    def _index(self, call: Call, database: str, collection: str) -> Any:
        """As the API does it, the document's name is put at the end."""
        self._database(call, database)
        self._check_idle(database)
        there, last = self.indexes.setdefault(database, []), {"fieldPath": "__name__", "order": "ASCENDING"}
        groups = f"projects/{self.project}/databases/{database}/collectionGroups"
        index = {**call.json, "fields": [*call.json["fields"], last]}
        if any(_same(one, index) for one in there if f"/{collection}/indexes/" in one["name"]):
            raise exists("The index")
        operation = self._begin(database, f"i{len(there)}")
        there.append({**index, "state": "CREATING", "name": f"{groups}/{collection}/indexes/i{len(there)}"})
        return operation

    def _list_fields(self, _: Call, database: str) -> Any:
        return {"fields": [field for name, field in self.fields.items() if name.startswith(f"{database}/")]}

    def _field(self, call: Call, database: str, collection: str, field: str) -> Any:
        self._check_idle(database)
        whole = f"projects/{self.project}/databases/{database}/collectionGroups/{collection}/fields/{field}"
        there = self.fields.setdefault(
            f"{database}/{collection}/{field}", {"name": whole, "indexConfig": {"indexes": []}}
        )
        body = call.json
        if "indexConfig" in body:
            there["indexConfig"] = {"indexes": body["indexConfig"].get("indexes", [])}
        if "ttlConfig" in body:
            there["ttlConfig"] = {"state": "ACTIVE"}
        return self._begin(database, f"{collection}-{field}")

    def _collection(self, _: Call, name: str) -> Any:
        if name not in self.collections:
            raise not_found(name)
        return self.collections[name]

    def _create_collection(self, call: Call) -> Any:
        name = call.query["collectionId"]
        if name in self.collections:
            raise exists(name)
        self.collections[name] = call.json
        return done({"name": name})

    def _list_releases(self, _: Call) -> Any:
        return {"releases": [self._release_of(name) for name in self.releases]}

    def _release(self, _: Call, name: str) -> Any:
        if name not in self.releases:
            raise not_found(name)
        return self._release_of(name)

    def _release_of(self, name: str) -> Any:
        return {"name": f"projects/{self.project}/releases/{name}", "rulesetName": self.releases[name]}

    def _create_release(self, call: Call) -> Any:
        name = call.json["name"].partition("/releases/")[2]
        if name in self.releases:
            raise exists(name)
        return self._put(name, call.json["rulesetName"])

    def _update_release(self, call: Call, name: str) -> Any:
        if name not in self.releases:
            raise not_found(name)
        body = call.json
        return self._put(name, body.get("release", body)["rulesetName"])

    def _put(self, name: str, ruleset: str) -> Any:
        if ruleset not in self.rulesets:
            raise Refusal(400, "INVALID_ARGUMENT", f"{ruleset} does not exist.")
        self.releases[name] = ruleset
        self.released(name, self.text(name))
        return self._release_of(name)

    def _ruleset(self, _: Call, name: str) -> Any:
        whole = f"projects/{self.project}/rulesets/{name}"
        if whole not in self.rulesets:
            raise not_found(whole)
        return self.rulesets[whole]

    def _list_rulesets(self, _: Call) -> Any:
        return {"rulesets": [{"name": name} for name in self.rulesets]}

    def _delete_ruleset(self, call: Call, name: str) -> Any:
        whole = self._ruleset(call, name)["name"]
        if whole in self.releases.values():
            raise Refusal(400, "FAILED_PRECONDITION", f"{whole} is in use by a release.")
        del self.rulesets[whole]
        return {}

    def _delete_release(self, call: Call, name: str) -> Any:
        self._release(call, name)
        del self.releases[name]
        return {}

    def _create_ruleset(self, call: Call) -> Any:
        self._rulesets = max(self._rulesets, len(self.rulesets)) + 1
        name = f"projects/{self.project}/rulesets/{self._rulesets}"
        self.rulesets[name] = {"name": name, "source": call.json["source"]}
        return self.rulesets[name]


def _check_retention(schedule: dict[str, Any]) -> None:
    seconds = int(float(schedule["retention"].removesuffix("s")))
    if not 0 < seconds <= _LONGEST_RETENTION:
        raise Refusal(400, "INVALID_ARGUMENT", "The retention must be at most 14 weeks.")


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("queryScope", "fields"))
