"""Firestore databases, their indexes and expiry, the index of vectors, and the app's own document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from firelaunch.scope import Scope
from firelaunch.settings.app import IndexSettings
from firelaunch.store.schema import SCHEMA
from firelaunch.text_file import read_text_file

from .gcloud import CommandFailed, Request, Tools, gcloud
from .resources import Place
from .steps import Action, Step
from .vertex_steps import named

__all__ = ["database", "indexes", "indexes_built", "known_schema", "publish", "vectors", "wanted_indexes"]

_FIRESTORE = "https://firestore.googleapis.com/v1"
_VECTOR_SEARCH = "https://vectorsearch.googleapis.com/v1"
_OVERRIDES = "indexConfig.usesAncestorConfig:false OR ttlConfig:*"
_PAGE = 1000
_POLL_SECONDS = 5.0
_BUILD_POLLS = 360
_TELL = 12
"""Polls between two lines that say that indexes are still being built: a minute."""


def database(place: Place, name: str) -> Step:
    """A Firestore database. It cannot be deleted until somebody takes the protection away."""
    create = gcloud(
        *("firestore", "databases", "create", f"--database={name}", f"--location={place.region}"),
        *("--type=firestore-native", "--delete-protection"),
        project=place.project,
    )
    return Step(
        f"Firestore database {name}",
        (gcloud("firestore", "databases", "list", project=place.project),),
        lacks=lambda a: [] if _find(a[0], name) else [create],
        refuses=lambda a: _wrong_type(_find(a[0], name), name),
        mend=f"ask for roles/datastore.owner in {place.project}; for another location make the database yourself first",
    )


def wanted_indexes(
    file: Path, vector: int = 0, tags: Sequence[str] = (), own: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what :func:`indexes` makes: the contents of ``firestore.indexes.json``, with what an app needs besides.

    Args:
        vector: length of the vectors in the chunks of an app that searches in Firestore; 0 for none.
        tags: those that its searches filter by.
        own: the composite indexes of an app's own collections.
    """
    wanted: dict[str, Any] = json.loads(read_text_file(file))
    return {**wanted, "indexes": [*wanted["indexes"], *(_vector_indexes(vector, tags) if vector else []), *own]}


def indexes(place: Place, name: str, wanted: Mapping[str, Any]) -> Step:
    """The indexes and TTL policies of :func:`wanted_indexes`, made for a database; what else is there is let be.

    They are begun one after the other and built beside; :func:`indexes_built` waits for them.
    """
    groups = f"{_FIRESTORE}/projects/{place.project}/databases/{name}/collectionGroups"

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = {_index_key(_group(item), item) for item in (answers[0] or {}).get("indexes", [])}
        for item in wanted["indexes"]:
            if _index_key(item["collectionGroup"], item) not in there:
                body = {"queryScope": item["queryScope"], "fields": item["fields"]}
                yield Request("POST", f"{groups}/{item['collectionGroup']}/indexes", body, operations=_FIRESTORE)
        fields = {tuple(item["name"].split("/")[-3::2]): item for item in (answers[1] or {}).get("fields", [])}
        for item in wanted["fieldOverrides"]:
            if not _overrides(fields.get((item["collectionGroup"], item["fieldPath"])), item):
                url = f"{groups}/{item['collectionGroup']}/fields/{item['fieldPath']}"
                ttl: dict[str, Any] = {"ttlConfig": {}} if item.get("ttl") else {}
                mask = ",".join(["indexConfig", *ttl])
                body = {"indexConfig": {"indexes": item["indexes"]}, **ttl}
                yield Request("PATCH", f"{url}?updateMask={mask}", body, operations=_FIRESTORE)

    return Step(
        f"indexes and expiry of {name}",
        (
            Request("GET", f"{groups}/-/indexes?pageSize={_PAGE}"),
            Request("GET", f"{groups}/-/fields?pageSize={_PAGE}&filter={quote(_OVERRIDES)}"),
        ),
        lacks=lacks,
        mend=f"ask for roles/datastore.owner in {place.project}",
    )


def indexes_built(place: Place, name: str, wanted: Mapping[str, Any]) -> Step:
    """The indexes that :func:`indexes` began, each ready: a query without its index is refused.

    Raises:
        CommandFailed: of the step: they are not ready after half an hour, as in a database that holds much.
    """
    keys = {_index_key(item["collectionGroup"], item) for item in wanted["indexes"]}
    groups = f"{_FIRESTORE}/projects/{place.project}/databases/{name}/collectionGroups"
    listed = Request("GET", f"{groups}/-/indexes?pageSize={_PAGE}")

    def states(tools: Tools) -> list[str]:
        answer = tools.request(listed) or {}
        mine = [item for item in answer.get("indexes", []) if _index_key(_group(item), item) in keys]
        return [str(item.get("state", "READY")) for item in mine]

    def wait(tools: Tools) -> None:
        for poll in range(_BUILD_POLLS):
            found = states(tools)
            building = found.count("CREATING")
            if not building:
                return
            if poll % _TELL == 0:
                most = f"{_BUILD_POLLS * _POLL_SECONDS / 60:.0f} minutes at most"
                tools.say(f"waiting, {most}: Firestore is building {building} of {len(keys)} indexes")
            tools.pause(_POLL_SECONDS)
        raise CommandFailed(
            f"Firestore is still building {building} of {len(keys)} indexes of {name}",
            "run the same command again: it goes on by itself, and a database that holds much takes longer",
        )

    def wrong(answers: Sequence[Any]) -> str | None:
        broken = [state for state in answers if state == "NEEDS_REPAIR"]
        return f"Firestore could not build {len(broken)} indexes of {name}" if broken else None

    return Step(
        f"indexes of {name} are built",
        (listed,),
        refuses=wrong,
        mend=f"see them, delete those that failed, and deploy again: gcloud firestore indexes composite list "
        f"--database='{name}' --project={place.project}",
        look=states,
        waits=wait,
    )


def vectors(place: Place, index: IndexSettings, dimensions: int) -> list[Step]:
    """Return the steps for a vector index outside Firestore, except a Vertex AI index that the deploy makes itself."""
    if index.backend == "vector_search":
        return [_collection(place, index.collection, dimensions)]
    if index.backend == "vertex" and index.vertex:
        return named(place, index.vertex, dimensions)
    return []


def publish(place: Place, database_name: str, app: str, fields: Mapping[str, Any]) -> Step:
    """The app's own document, as ``firelaunch publish`` writes it: its name, and who may join."""
    url = f"{_FIRESTORE}/projects/{place.project}/databases/{database_name}/documents/apps/{app}"
    wanted = {name: _value(value) for name, value in fields.items()}
    mask = "&".join(f"updateMask.fieldPaths={name}" for name in sorted(wanted))

    def same(document: Any) -> bool:
        there = (document or {}).get("fields", {})
        return all(_plain(there.get(name)) == _plain(value) for name, value in wanted.items())

    return Step(
        "the app's name and who may join it",
        (Request("GET", url),),
        lacks=lambda a: [] if same(a[0]) else [Request("PATCH", f"{url}?{mask}", {"fields": wanted})],
        mend=f"ask for roles/datastore.user in {place.project}",
    )


def known_schema(place: Place, database_name: str, app: str) -> Step:
    """The app's stored data is of no newer firelaunch than the one that is deployed, which would refuse it."""
    path = Scope(app).schema()
    url = f"{_FIRESTORE}/projects/{place.project}/databases/{database_name}/documents/{path}"

    def wrong(answers: Sequence[Any]) -> str | None:
        version = int((answers[0] or {}).get("fields", {}).get("version", {}).get("integerValue", 0))
        if version <= SCHEMA:
            return None
        return f"the app's data was written by a newer firelaunch (schema {version}; this one has {SCHEMA})"

    return Step(
        "the version of the app's data",
        (Request("GET", url),),
        refuses=wrong,
        mend="deploy with that firelaunch, or a newer one: update your clone of it, or the version that the app names",
    )


def _collection(place: Place, name: str, dimensions: int) -> Step:
    parent = f"{_VECTOR_SEARCH}/projects/{place.project}/locations/{place.region}/collections"
    names = ("app", "owner", "version", "chunk", "document", "text", "place")
    body = {
        "dataSchema": {"type": "object", "properties": {each: {"type": "string"} for each in names}},
        "vectorSchema": {"embedding": {"denseVector": {"dimensions": dimensions}}},
    }

    def wrong(answers: Sequence[Any]) -> str | None:
        schema = (answers[0] or {}).get("vectorSchema", {}).get("embedding", {}).get("denseVector", {})
        there = schema.get("dimensions", dimensions)
        if there == dimensions:
            return None
        return f"collection {name} has vectors of {there}, and the app's are {dimensions}"

    return Step(
        f"Vector Search collection {name}",
        (Request("GET", f"{parent}/{name}"),),
        lacks=lambda a: [] if a[0] else [Request("POST", f"{parent}?collectionId={name}", body)],
        refuses=wrong,
        mend="ask for roles/vectorsearch.admin; or give the app another index.collection",
    )


def _find(listed: Any, name: str) -> Mapping[str, Any] | None:
    return next((item for item in listed or [] if item["name"].endswith(f"/databases/{name}")), None)


def _wrong_type(there: Mapping[str, Any] | None, name: str) -> str | None:
    if there and there.get("type") == "DATASTORE_MODE":
        return f"database {name} is in Datastore mode, and clients and rules need Firestore's native mode"
    return None


def _vector_indexes(dimensions: int, tags: Sequence[str]) -> list[dict[str, Any]]:
    """Of docs/search.md: neighbours within one version, and within every set of what a search may filter by.

    ``find_nearest`` takes an index of exactly the fields that it filters by and the vector; Firestore merges none
    (https://firebase.google.com/docs/firestore/vector-search#create_and_manage_vector_indexes).
    """
    optional = sorted(["document", *(f"tags.{tag}" for tag in tags)])
    filters = [chosen for count in range(len(optional) + 1) for chosen in combinations(optional, count)]
    return [
        {
            "collectionGroup": "chunks",
            "queryScope": "COLLECTION",
            "fields": [
                *({"fieldPath": name, "order": "ASCENDING"} for name in (*chosen, "version")),
                {"fieldPath": "embedding", "vectorConfig": {"dimension": dimensions, "flat": {}}},
            ],
        }
        for chosen in filters
    ]


def _group(item: Mapping[str, Any]) -> str:
    return str(item["name"].split("/")[-3])


def _index_key(group: str, item: Mapping[str, Any]) -> str:
    """Return the fields by which indexes are compared, without the ``__name__`` that Firestore adds at the end."""
    fields = [field for field in item["fields"] if field["fieldPath"] != "__name__"]
    return json.dumps([group, item["queryScope"], fields], sort_keys=True)


def _overrides(there: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    if there is None or bool(there.get("ttlConfig")) < bool(wanted.get("ttl")):
        return False
    config = there.get("indexConfig", {})
    return not config.get("usesAncestorConfig") and len(config.get("indexes", [])) == len(wanted["indexes"])


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {"nullValue": None}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _plain(value: Any) -> Any:
    """A value as it compares: the API leaves out what is empty."""
    if value is None:
        return "nothing"
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"].get("values", [])]
    return value.get("stringValue")
