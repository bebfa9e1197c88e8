"""The bucket of documents' files: Firebase's own, made where it is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .gcloud import Request, Tools, gcloud
from .resources import Place
from .steps import Action, Step

__all__ = ["files"]

_STORAGE = "https://firebasestorage.googleapis.com/v1alpha"


def files(place: Place, bucket: str) -> Step:
    """A bucket whose objects are guarded by IAM alone: conditions on an object's name want that
    (https://cloud.google.com/storage/docs/uniform-bucket-level-access).

    Firebase's default bucket is made where there is none; lists are ended where it is empty, as one is that a deploy
    had made when it was broken off. A bucket of another name is looked at and never made.
    """
    default = bucket == f"{place.project}.firebasestorage.app"
    guard = gcloud(
        "storage", "buckets", "update", f"gs://{bucket}", "--uniform-bucket-level-access", project=place.project
    )
    listed = gcloud("storage", "buckets", "list", project=place.project)
    objects = gcloud("storage", "objects", "list", f"gs://{bucket}", "--limit=1", project=place.project)
    make = (
        f"gcloud storage buckets create gs://{bucket} --location={place.region} --uniform-bucket-level-access "
        f"--project={place.project}, and add it under Storage in the Firebase console"
    )

    def look(tools: Tools) -> Sequence[Any]:
        buckets = tools.read(listed)
        return [buckets, tools.read(objects) if default and _open(_find(buckets, bucket)) else None]

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = _find(answers[0], bucket)
        if default and there is None:
            # https://firebase.google.com/docs/reference/rest/storage/rest/v1alpha/projects.defaultBucket/create
            yield Request("POST", f"{_STORAGE}/projects/{place.project}/defaultBucket", {"location": place.region})
        if default and (there is None or _open(there)):
            yield guard

    def wrong(answers: Sequence[Any]) -> str | None:
        there, filled = _find(answers[0], bucket), answers[1]
        if there is None:
            return None if default else f"the bucket {bucket} of documents.bucket is not in {place.project}"
        if not _open(there) or (default and not filled):
            return None
        return f"bucket {bucket} has access control lists, past which an app's right to its own files does not hold"

    return Step(
        f"bucket {bucket}",
        (listed, *([objects] if default else [])),
        lacks=lacks,
        refuses=wrong,
        mend=f"ask for roles/firebasestorage.admin and roles/storage.admin in {place.project}; for lists: {guard}"
        + ("" if default else f"; or make it: {make}"),
        look=look,
    )


def _open(there: Any) -> bool:
    return there is not None and not there.get("uniform_bucket_level_access")


def _find(listed: Any, name: str) -> Any:
    return next((item for item in listed or [] if item["name"] == name), None)
