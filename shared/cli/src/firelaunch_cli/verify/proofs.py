"""The proofs: each shows one thing that holds on Google itself, by acting as a user, an account or an operator does."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from ..deploy.gcloud import CommandFailed, Request
from .proving import FIRESTORE, STORAGE, Proving, Unproved
from .resources import other_database

__all__ = ["PROOFS", "Need", "Proof"]

Need = str
"""A need of a proof: "impersonation", "users" or "rules"."""

IMPERSONATION, USERS, RULES = "impersonation", "users", "rules"

_RIGHT_SECONDS = 420.0
_RULES_SECONDS = 660.0
"""Rules take up to a minute for new queries and ten for listeners
(https://firebase.google.com/docs/rules/manage-deploy#delays)."""
_EVENT_SECONDS = 300.0
_TRIGGER_SECONDS = 150.0
"""A new Eventarc trigger takes up to two minutes, and what happens before is lost
(https://cloud.google.com/eventarc/docs/run/route-trigger-cloud-firestore)."""
_JOB_SECONDS = 300.0
_LEAVE_SECONDS = 90.0

_WORD = "quorvex"
_NOTES = {
    "observatory.md": f"# Opening hours\n\nThe {_WORD} observatory lets visitors in at nine in the evening.\n",
    "bakery.md": "# Bread\n\nSourdough rests overnight in a cold room and is baked before dawn.\n",
}
_MEANING = "When may guests come to look through a telescope?"
"""Shares no word with the passage that it is to find."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that is shown.

    Args:
        name: for ``--only``.
        shows: what holds where it passes.
        run: returns what was seen, or raises :class:`.proving.Unproved`.
        needs: what it takes besides the deployed app.
        after: proofs that leave something to it.
    """

    name: str
    shows: str
    run: Callable[[Proving], str]
    needs: tuple[Need, ...] = ()
    after: tuple[str, ...] = ()


def database(run: Proving) -> str:
    """The account reaches its own database, and not another one, by IAM's condition alone."""
    token = run.access.access_token("app")
    own = f"{run.documents}/apps/{run.app}"
    status = run.until(lambda: _status_is(run, own, token, 200), _RIGHT_SECONDS)
    where = run.console("iam-admin/iam")
    if not status:
        seen = run.google("GET", own, token)
        raise Unproved("200 from the app's own database", f"{seen[0]}: {seen[1]}", where)
    other = f"{FIRESTORE}/projects/{run.manifest.project}/databases/{other_database(run.manifest)}/documents"
    written = {"fields": {"by": {"stringValue": run.app}}}
    for method, body in (("GET", None), ("PATCH", written)):
        got, said = run.google(method, f"{other}/apps/{run.app}", token, json=body)
        if got != 403:
            raise Unproved(f"403 for a {method} in another database", f"{got}: {said}", where)
    return "200 from its own database; 403 from another, reading and writing"


def files(run: Proving) -> str:
    """The account reaches the files below its app's folder, and no others of the bucket."""
    token, objects = run.access.access_token("app"), f"{STORAGE}/{run.bucket}/o"
    own = f"{objects}?prefix={quote(f'apps/{run.app}/', safe='')}"
    where = run.console(f"storage/browser/{run.bucket}")
    if not run.until(lambda: _status_is(run, own, token, 200), _RIGHT_SECONDS):
        seen = run.google("GET", own, token)
        raise Unproved("200 for a list of the app's own files", f"{seen[0]}: {seen[1]}", where)
    listed, _ = run.google("GET", f"{objects}?prefix={quote('apps/another/', safe='')}", token)
    name = quote("apps/another/users/x/uploads/a.txt", safe="")
    put, _ = run.google("POST", f"{_upload(run)}?uploadType=media&name={name}", token, content=b"a")
    if (listed, put) != (403, 403):
        raise Unproved("403 for another app's files", f"{listed} for a list, {put} for an upload", where)
    return "200 for its own folder; 403 for another app's, listing and writing"


def signature(run: Proving) -> str:
    """Google's signature of a caller's token arrives whole: a good token is let in, and a changed one is not."""
    audience, path = run.place.url(run.app), "/internal/sweep"
    token = run.access.identity_token("job", audience)
    status, said = run.call("POST", path, token=token)
    if status != 200:
        raise Unproved("200 for the token of the account that brings jobs", f"{status}: {said}", run.logs)
    head, _, signed = token.rpartition(".")
    changed = f"{head}.{signed[:20]}{'A' if signed[20] != 'A' else 'B'}{signed[21:]}"
    others = {"a changed signature": changed, "another account": run.access.identity_token("app", audience), "none": ""}
    for what, other in others.items():
        status, said = run.call("POST", path, token=other)
        if status != 401:
            raise Unproved(f"401 for a token with {what}", f"{status}: {said}", run.logs)
    return "200 for the right token; 401 for a changed one, another account's, and none"


def rules(run: Proving) -> str:
    """A user reads their own chats directly from Firestore, and nobody else does."""
    chat = run.new_chat(run.ada)
    chats = f"{run.documents}/{run.below(run.ada)}/chats"
    ada, eve = (run.access.user_token(uid) for uid in (run.ada, run.eve))
    where = f"https://console.firebase.google.com/project/{run.manifest.project}/firestore/databases/{run.app}/rules"

    def own() -> bool:
        status, said = run.google("GET", chats, ada)
        return status == 200 and chat in str(said)

    if not run.until(own, _RULES_SECONDS):
        seen = run.google("GET", chats, ada)
        raise Unproved("a user's own chats", f"{seen[0]}: {str(seen[1])[:200]}", where)
    usage = f"{run.documents}/{run.below(run.ada)}/usage/2000-01-01"
    refused = {
        "another user": run.google("GET", chats, eve)[0],
        "nobody": run.google("GET", chats, open_to_all=True)[0],
        "writing one's own usage": run.google("PATCH", usage, ada, json={"fields": {"x": {"integerValue": "0"}}})[0],
    }
    let_in = {what: status for what, status in refused.items() if status not in (401, 403)}
    if let_in:
        raise Unproved("403 for everybody else", str(let_in), where)
    return f"the user reads their chats; {', '.join(refused)} is refused"


def indexes(run: Proving) -> str:
    """Every composite index of firestore.indexes.json serves the query that it is for."""
    composite = run.indexes["indexes"]
    for index in composite:
        query = _query_for(index)
        status, said = run.google("POST", f"{run.documents}/apps/{run.app}:runQuery", json={"structuredQuery": query})
        if status != 200:
            fields = ", ".join(field["fieldPath"] for field in index["fields"])
            seen = f"{status}: {str(said)[:200]}"
            raise Unproved(
                f"a query of {index['collectionGroup']} by {fields}", seen, run.console("firestore/databases")
            )
    return f"{len(composite)} queries, each by an index of its own"


def tasks(run: Proving) -> str:
    """A file that a user sends is ingested by a job, which Cloud Tasks brings."""
    for name, text in _NOTES.items():
        status, said = run.call("POST", "/v1/uploads", run.ada, files={"file": (name, text.encode())})
        if status not in (200, 202):
            raise Unproved("202 for an upload", f"{status}: {said}", run.logs)
        run.memory[name] = said["id"]
    for name in _NOTES:
        _ready(run, run.memory[name], run.console("cloudtasks"))
    return f"{len(_NOTES)} files are ready to be searched"


def words(run: Proving) -> str:
    """A search finds a passage by a word that only that passage has."""
    found = _search(run, _WORD)
    if not found or found[0]["document_id"] != run.memory["observatory.md"] or _WORD not in found[0]["text"]:
        raise Unproved("the passage with the word, first", _titles(found), run.logs)
    return f"first of {len(found)}, and neither half of the search failed"


def vectors(run: Proving) -> str:
    """A search finds a passage by its meaning, with a question that shares no word with it."""
    found = _search(run, _MEANING)
    if not found or found[0]["document_id"] != run.memory["observatory.md"]:
        raise Unproved("the passage that means it, first", _titles(found), run.logs)
    return f"first of {len(found)}, with no word in common"


def stream(run: Proving) -> str:
    """An answer's words arrive while the model still writes; nothing on the way holds them back."""
    chat, pieces, first, whole_at_first = run.new_chat(run.ada), 0, 0.0, False
    ended = None
    with run.stream(run.ada, chat, _count_to(120)) as events:
        for event in events:
            if event.name == "delta":
                pieces += 1
                if pieces == 1:
                    first, whole_at_first = event.seconds, bool(run.answers(run.ada, chat))
            if event.name in ("done", "error"):
                ended = event
    _done(run, ended)
    if whole_at_first:
        seen = "the whole answer was stored before its first word came"
        raise Unproved("the first word before the answer is whole", seen, "proxies between you and Cloud Run")
    assert ended is not None  # noqa: S101
    return f"the first words after {first:.1f} s, the last after {ended.seconds:.1f} s, in {pieces} pieces"


def stop(run: Proving) -> str:
    """A stop that is asked for on another connection ends the answer, and keeps what was said."""
    chat, asked, ended = run.new_chat(run.ada), None, None
    with run.stream(run.ada, chat, _count_to(400)) as events:
        for event in events:
            if event.name == "delta" and asked is None:
                status, said = run.call("POST", f"/v1/chats/{chat}/stop", run.ada)
                if status not in (202, 204):
                    raise Unproved("202 for a stop", f"{status}: {said}", run.logs)
                asked = event.seconds
            if event.name in ("done", "error"):
                ended = event
    _done(run, ended)
    assert ended is not None  # noqa: S101
    if ended.data["message"]["status"] != "incomplete":
        raise Unproved("an answer that ends before it is whole", "it went on to its end", run.logs)
    return f"it ended {ended.seconds - (asked or 0):.1f} s after the stop"


def leave(run: Proving) -> str:
    """With on_disconnect = "stop" a client that leaves ends the answer, so that nobody pays for the rest."""
    chat = run.new_chat(run.ada)
    with run.stream(run.ada, chat, _count_to(400)) as events:
        first = next((event for event in events if event.name == "delta"), None)
    if first is None:
        raise Unproved("a first word", "none", run.logs)
    left = run.clock()
    found = run.until(lambda: run.answers(run.ada, chat), _LEAVE_SECONDS)
    if not found or found[-1]["status"] != "incomplete":
        seen = "it went on to its end" if found else f"no answer was stored within {_LEAVE_SECONDS:.0f} s"
        raise Unproved("an answer that ends before it is whole", seen, "docs/streaming.md, and " + run.logs)
    return f"it was stored as incomplete within {run.clock() - left:.1f} s"


def storage(run: Proving) -> str:
    """A file that is put into the bucket is ingested: Cloud Storage tells of it, and Pub/Sub calls the function."""
    name, text = f"letter-{secrets.token_hex(3)}.md", f"# Letter\n\nThe {_WORD} archive keeps letters from the north.\n"
    target = quote(f"apps/{run.app}/users/{run.ada}/uploads/{name}", safe="")
    headers = {"Content-Type": "text/markdown"}
    url = f"{_upload(run)}?uploadType=media&name={target}"
    status, said = run.google("POST", url, content=text.encode(), headers=headers)
    if status != 200:
        raise Unproved("200 for an upload into the bucket", f"{status}: {said}", run.console("storage/browser"))

    def arrived() -> str:
        _, listed = run.call("GET", "/v1/documents", run.ada)
        found = listed.get("items", []) if isinstance(listed, Mapping) else []
        return next((str(each["id"]) for each in found if each["name"] == name), "")

    document = run.until(arrived, _EVENT_SECONDS)
    where = run.console("cloudpubsub/subscription/list")
    if not document:
        raise Unproved("a document for the file", f"none within {_EVENT_SECONDS:.0f} s", where)
    run.memory["letter.md"] = document
    _ready(run, document, where)
    return "the file became a document that is ready to be searched"


def scheduler(run: Proving) -> str:
    """Cloud Scheduler's call reaches the app with a token that it takes."""
    name = f"projects/{run.manifest.project}/locations/{run.manifest.region}/jobs/{run.app}-sweep"
    url = f"https://cloudscheduler.googleapis.com/v1/{name}"
    before = (run.tools.request(Request("GET", url)) or {}).get("lastAttemptTime")
    run.tools.request(Request("POST", f"{url}:run", {}))

    def tried() -> Any:
        job = run.tools.request(Request("GET", url)) or {}
        return job if job.get("lastAttemptTime") not in (None, before) else None

    job, where = run.until(tried, _EVENT_SECONDS), run.console("cloudscheduler")
    if not job:
        raise Unproved("a call of the job", f"none within {_EVENT_SECONDS:.0f} s", where)
    code = job.get("status", {}).get("code", 0)
    if code:
        raise Unproved("a call that the app answers with 200", f"status {code} of {name}", where)
    return "the app answered its call with 200"


def eventarc(run: Proving) -> str:
    """A document's record that is deleted in Firestore takes its chunks with it: Eventarc calls the function."""
    tried = [name for name in (*_NOTES, "letter.md") if name in run.memory]
    for name in tried:
        document = run.memory.pop(name)
        if not _chunks(run, document):
            raise Unproved(f"chunks of {name}", "none", run.console("firestore/databases"))
        status, said = run.google("DELETE", f"{run.documents}/{run.below(run.ada)}/documents/{document}")
        if status != 200:
            raise Unproved("200 for deleting a record", f"{status}: {said}", run.console("firestore/databases"))
        if run.until(partial(_has_no_chunks, run, document), _TRIGGER_SECONDS):
            return f"the chunks of {name} went with its record"
    seen = f"chunks stayed, of {len(tried)} records one after the other"
    raise Unproved("no chunks without their record", seen, run.console("eventarc/triggers"))


def rollback(run: Proving) -> str:
    """A second revision takes the traffic, and a rollback gives it back to the first."""
    second = run.release((f"--update-env-vars=VERIFY_RUN={run.manifest.run}",))
    first = _serving(second)
    _release(second, run)
    after = _serving(second)
    where = run.console(f"run/detail/{run.manifest.region}/{run.app}/revisions")
    if not after or after == first:
        raise Unproved("traffic on the second revision", f"{after} serves", where)
    second.rollback()
    back = _serving(second)
    if back != first:
        raise Unproved(f"traffic on {first} again", f"{back} serves", where)
    status, said = run.call("GET", "/ready")
    if status != 200:
        raise Unproved("200 from the app after the rollback", f"{status}: {said}", run.logs)
    return f"{after} served, then {back} again"


def erasure(run: Proving) -> str:
    """Of an erased user nothing is left in the database or in the bucket; another user's chat is still there."""
    kept, gone = run.new_chat(run.eve), run.new_chat(run.ada)
    token = run.access.identity_token("job", run.place.url(f"fl-fn-{run.app}"))
    path = f"/erase_user/apps/{run.app}/erasures/{run.ada}"
    status, said = run.call("POST", path, token=token, base=run.functions_url)
    if status != 200:
        raise Unproved("200 from erase_user", f"{status}: {said}", run.logs)
    run.until(lambda: not _traces(run), _JOB_SECONDS)
    left = _traces(run)
    if left:
        raise Unproved("nothing of the user", ", ".join(left[:10]), run.console("firestore/databases"))
    if run.call("GET", f"/v1/chats/{kept}", run.eve)[0] != 200:
        raise Unproved("another user's chat", "it is gone too", run.logs)
    if run.call("GET", f"/v1/chats/{gone}", run.ada)[0] != 404:
        raise Unproved("404 for an erased chat", "the app still shows it", run.logs)
    return "no document, no record and no file is left; another user's chat is there"


PROOFS: Sequence[Proof] = (
    Proof("database", "IAM's condition refuses another database", database, (IMPERSONATION,)),
    Proof("files", "IAM's condition refuses another app's files", files, (IMPERSONATION,)),
    Proof("signature", "Google's signature reaches the app", signature, (IMPERSONATION,)),
    Proof("indexes", "each composite index serves its query", indexes),
    Proof("rules", "rules let a user read their own data alone", rules, (IMPERSONATION, USERS, RULES)),
    Proof("tasks", "an upload is ingested; Cloud Tasks brings its job", tasks, (IMPERSONATION, USERS)),
    Proof("words", "a search finds words", words, (IMPERSONATION, USERS), ("tasks",)),
    Proof("vectors", "a search finds meanings", vectors, (IMPERSONATION, USERS), ("tasks",)),
    Proof("stream", "nothing on the way buffers a stream", stream, (IMPERSONATION, USERS)),
    Proof("stop", "a stop is noticed", stop, (IMPERSONATION, USERS)),
    Proof("leave", "a client's leaving is noticed", leave, (IMPERSONATION, USERS)),
    Proof("storage", "Cloud Storage's events arrive", storage, (IMPERSONATION, USERS)),
    Proof("scheduler", "Cloud Scheduler's calls arrive", scheduler),
    Proof("eventarc", "Eventarc's events arrive", eventarc, (IMPERSONATION, USERS), ("tasks",)),
    Proof("rollback", "a rollback gives the traffic back", rollback),
    Proof("erasure", "erasure leaves nothing of a user", erasure, (IMPERSONATION, USERS)),
)
"""In the order in which they run."""


def _status_is(run: Proving, url: str, token: str, status: int) -> bool:
    return run.google("GET", url, token)[0] == status


def _upload(run: Proving) -> str:
    return f"https://storage.googleapis.com/upload/storage/v1/b/{run.bucket}/o"


def _query_for(index: Mapping[str, Any]) -> dict[str, Any]:
    """A query that no other index serves: by all of its fields, in their order."""
    order = [
        {"field": {"fieldPath": field["fieldPath"]}, "direction": field["order"]}
        for field in index["fields"]
        if "order" in field
    ]
    collection = {"collectionId": index["collectionGroup"]}
    if index["queryScope"] == "COLLECTION_GROUP":
        collection["allDescendants"] = True
    return {"from": [collection], "orderBy": order, "limit": 1}


def _ready(run: Proving, document: str, where: str) -> None:
    def ended() -> Any:
        _, said = run.call("GET", f"/v1/documents/{document}", run.ada)
        return said if isinstance(said, Mapping) and said.get("status") in ("ready", "failed") else None

    said = run.until(ended, _JOB_SECONDS)
    if not said:
        raise Unproved("a document that is ready", f"it is not within {_JOB_SECONDS:.0f} s", where)
    if said["status"] == "failed":
        raise Unproved("a document that is ready", f"failed: {said.get('error')}", run.logs)


def _search(run: Proving, query: str) -> list[Mapping[str, Any]]:
    status, said = run.call("POST", "/v1/search", run.ada, json={"query": query, "library": False})
    if status != 200:
        raise Unproved("200 for a search", f"{status}: {said}", run.logs)
    if said["mode"] != "hybrid" or said["note"]:
        raise Unproved("a search by words and vectors", f"mode {said['mode']}: {said['note']}", run.logs)
    passages: list[Mapping[str, Any]] = said["passages"]
    return passages


def _titles(passages: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(passage["title"]) for passage in passages) or "no passage"


def _count_to(number: int) -> str:
    return f"Write the numbers from 1 to {number} as English words, separated by commas. Write nothing else."


def _done(run: Proving, ended: Any) -> None:
    if ended is None or ended.name != "done":
        raise Unproved("an answer that ends", str(ended.data if ended else "the connection broke")[:300], run.logs)


def _chunks(run: Proving, document: str) -> int:
    """How many chunks of a document the index holds."""
    equal = {"field": {"fieldPath": "document"}, "op": "EQUAL", "value": {"stringValue": document}}
    query = {"from": [{"collectionId": "chunks"}], "where": {"fieldFilter": equal}, "limit": 100}
    url = f"{run.documents}/{run.below(run.ada)}:runQuery"
    status, said = run.google("POST", url, json={"structuredQuery": query})
    if status != 200:
        raise Unproved("a list of chunks", f"{status}: {str(said)[:200]}", run.console("firestore/databases"))
    return sum("document" in each for each in said)


def _has_no_chunks(run: Proving, document: str) -> bool:
    return not _chunks(run, document)


def _serving(release: Any) -> str:
    live = release.live()
    return str(live.serving or "") if live else ""


def _release(release: Any, run: Proving) -> None:
    try:
        release.deploy(run.memory["staged"])
    except CommandFailed as failed:
        raise Unproved("a second revision that works", str(failed)[-300:], run.logs) from None


def _traces(run: Proving) -> list[str]:
    """Return what is left of the user: collections below their document, records of jobs and requests, files."""
    user = f"{run.documents}/{run.below(run.ada)}"
    status, said = run.google("POST", f"{user}:listCollectionIds", json={"pageSize": 100})
    found = list(said.get("collectionIds", [])) if status == 200 else [f"{status}: {str(said)[:100]}"]
    if run.google("GET", user)[0] != 404:
        found.append("the user's own document")
    found += [f"a record of {collection}" for collection in ("jobs", "requests") if _records(run, collection)]
    prefix = quote(f"apps/{run.app}/users/{run.ada}/", safe="")
    _, listed = run.google("GET", f"{STORAGE}/{run.bucket}/o?prefix={prefix}")
    return [*found, *(item["name"] for item in _items(listed))]


def _records(run: Proving, collection: str) -> int:
    equal = {"field": {"fieldPath": "uid"}, "op": "EQUAL", "value": {"stringValue": run.ada}}
    query = {"from": [{"collectionId": collection}], "where": {"fieldFilter": equal}, "limit": 1}
    _, said = run.google("POST", f"{run.documents}/apps/{run.app}:runQuery", json={"structuredQuery": query})
    return sum("document" in each for each in said) if isinstance(said, list) else 1


def _items(listed: Any) -> Iterator[Mapping[str, Any]]:
    yield from (listed.get("items", []) if isinstance(listed, Mapping) else [])
