"""Firestore's databases, documents, indexes and rules, and Vector Search's collections: what a deploy touches."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .base import Call, Refusal, Route, done, exists, not_found

__all__ = ["Firestore"]

_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]")


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
        vectors = f"vectorsearch.googleapis.com/v1/projects/{self.project}/locations/[^/]+/collections"
        rules = f"firebaserules.googleapis.com/v1/projects/{self.project}"
        return [
            Route("GET", base, lambda _: {"databases": list(self.databases.values())}, "datastore.databases.list"),
            Route("POST", base, self._create, "datastore.databases.create"),
            Route("GET", base + "/([^/]+)", self._database, "datastore.databases.getMetadata"),
            Route("GET", base + "/([^/]+)/operations/done", lambda *_: done({}), "datastore.operations.get"),
            Route("GET", base + "/([^/]+)/operations/([^/]+)", self._operation, "datastore.operations.get"),
            Route("PATCH", base + "/([^/]+)", self._change_database, "datastore.databases.update"),
            Route("DELETE", base + "/([^/]+)", self._delete_database, "datastore.databases.delete"),
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

    def _create(self, call: Call) -> Any:
        name = call.query["databaseId"]
        if not _DATABASE.fullmatch(name):
            raise Refusal(400, "INVALID_ARGUMENT", f"Database ID {name} is not valid.")
        if name in self.databases:
            raise exists(name)
        whole = f"projects/{self.project}/databases/{name}"
        self.databases[name] = {"name": whole, "uid": name, **call.json}
        kind = "type.googleapis.com/google.firestore.admin.v1.Database"
        return {**done(self.databases[name], kind), "name": f"{whole}/operations/done"}

    def check(self, name: str) -> None:
        """Refuses a database that there is none of."""
        if name not in self.databases:
            raise not_found(f"Database {name}")

    def _database(self, _: Call, name: str) -> Any:
        self.check(name)
        return self.databases[name]

    def _change_database(self, call: Call, name: str) -> Any:
        there = self._database(call, name)
        there |= {key: call.json[key] for key in call.query["updateMask"].split(",") if key in call.json}
        return {**done(there), "name": f"{there['name']}/operations/done"}

    def _delete_database(self, call: Call, name: str) -> Any:
        there = self._database(call, name)
        if there.get("deleteProtectionState") == "DELETE_PROTECTION_ENABLED":
            said = "Delete protection is enabled for this database. Disable it first."
            raise Refusal(400, "FAILED_PRECONDITION", said)
        del self.databases[name]
        self.indexes.pop(name, None)
        for kept in (self.documents, self.fields):
            for key in [key for key in kept if key.startswith(f"{name}/")]:
                del kept[key]
        return {**done({}), "name": f"{there['name']}/operations/done"}

    def _document(self, _: Call, database: str, path: str) -> Any:
        self._database(_, database)
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


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("queryScope", "fields"))
