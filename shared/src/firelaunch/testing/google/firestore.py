"""Firestore's databases, documents, indexes and rules, and Vector Search's collections: what a deploy touches."""

from __future__ import annotations

import re
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
            Route("GET", base + "/([^/]+)", self._database, "datastore.databases.get"),
            Route("GET", base + "/([^/]+)/operations/done", lambda *_: done({})),
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

    def _database(self, _: Call, name: str) -> Any:
        if name not in self.databases:
            raise not_found(f"Database {name}")
        return self.databases[name]

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
        return {"indexes": self.indexes.get(database, [])}

    def _index(self, call: Call, database: str, collection: str) -> Any:
        """As the API does it, the document's name is put at the end."""
        self._database(call, database)
        there, last = self.indexes.setdefault(database, []), {"fieldPath": "__name__", "order": "ASCENDING"}
        groups = f"projects/{self.project}/databases/{database}/collectionGroups"
        index = {**call.json, "fields": [*call.json["fields"], last], "state": "CREATING"}
        if any({**one, "name": ""} == {**index, "name": ""} for one in there):
            raise exists("The index")
        there.append({**index, "name": f"{groups}/{collection}/indexes/i{len(there)}"})
        return {"name": f"projects/{self.project}/databases/{database}/operations/index"}

    def _list_fields(self, _: Call, database: str) -> Any:
        return {"fields": [field for name, field in self.fields.items() if name.startswith(f"{database}/")]}

    def _field(self, call: Call, database: str, collection: str, field: str) -> Any:
        whole = f"projects/{self.project}/databases/{database}/collectionGroups/{collection}/fields/{field}"
        there = self.fields.setdefault(
            f"{database}/{collection}/{field}", {"name": whole, "indexConfig": {"indexes": []}}
        )
        body = call.json
        if "indexConfig" in body:
            there["indexConfig"] = {"indexes": body["indexConfig"].get("indexes", [])}
        if "ttlConfig" in body:
            there["ttlConfig"] = {"state": "ACTIVE"}
        return {**done(there), "name": f"projects/{self.project}/databases/{database}/operations/done"}

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
        return self._release_of(name)

    def _ruleset(self, _: Call, name: str) -> Any:
        return self.rulesets[f"projects/{self.project}/rulesets/{name}"]

    def _create_ruleset(self, call: Call) -> Any:
        name = f"projects/{self.project}/rulesets/{len(self.rulesets) + 1}"
        self.rulesets[name] = {"name": name, "source": call.json["source"]}
        return self.rulesets[name]
