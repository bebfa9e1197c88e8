"""Cloud Storage and Cloud Build: what ``gcloud run deploy --source`` uploads, and the image it becomes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from typing import Any

from .base import Call, Refusal, Route, not_found
from .run import Run

__all__ = ["Build"]


class Build:
    """State and routes."""

    def __init__(self, project: str, run: Run) -> None:
        self.project = project
        self.buckets: set[str] = set()
        self.uniform: set[str] = set()
        """Buckets whose objects IAM alone guards."""
        self.uploads: list[list[str]] = []
        """The names of the files in each upload."""
        self._objects: dict[str, bytes] = {}
        self._sessions: dict[str, str] = {}
        self._builds: dict[str, dict[str, Any]] = {}
        self._run = run

    def routes(self) -> list[Route]:
        """Every route."""
        storage, upload = "storage.googleapis.com/storage/v1/b", "storage.googleapis.com/upload/storage/v1/b"
        return [
            Route(
                "GET",
                storage,
                lambda _: {"items": [self._bucket_of(x) for x in sorted(self.buckets)]},
                "storage.buckets.list",
            ),
            Route("GET", storage + "/([^/]+)", self._bucket, "storage.buckets.get"),
            Route("POST", storage, self._create_bucket, "storage.buckets.create"),
            Route("PATCH", storage + "/([^/]+)", self._patch_bucket, "storage.buckets.update"),
            Route(
                "POST",
                f"firebasestorage.googleapis.com/v1alpha/projects/{self.project}/defaultBucket",
                self._default_bucket,
                "firebasestorage.defaultBucket.create",
            ),
            Route("POST", upload + "/([^/]+)/o", self._upload, "storage.objects.create"),
            Route("PUT", upload + "/([^/]+)/o", self._resume, "storage.objects.create"),
            Route("GET", storage + "/([^/]+)/o", self._list_objects, "storage.objects.list"),
            Route("GET", storage + "/([^/]+)/o/(.+)", self._object, "storage.objects.get"),
            Route(
                "POST",
                r"[a-z0-9-]+-run.googleapis.com/v2/projects/[^/]+/locations/([^/]+)/builds:submit",
                self._submit,
                "cloudbuild.builds.create",
            ),
            Route(
                *("GET", r"cloudbuild.googleapis.com/v1/projects/[^/]+/locations/[^/]+/operations/(.+)"),
                *(self._operation, "cloudbuild.builds.get"),
            ),
        ]

    def check_bucket(self, name: str) -> None:
        """Refuses a bucket that there is none of."""
        if name not in self.buckets:
            raise not_found(f"Bucket {name}")

    def _bucket(self, _: Call, name: str) -> Any:
        self.check_bucket(name)
        return self._bucket_of(name)

    def _bucket_of(self, name: str) -> Any:
        uniform = {"uniformBucketLevelAccess": {"enabled": name in self.uniform}}
        known = {"projectNumber": "1234", "location": "EUROPE-WEST1", "metageneration": "1"}
        return {"kind": "storage#bucket", "id": name, "name": name, "iamConfiguration": uniform, **known}

    def _patch_bucket(self, call: Call, name: str) -> Any:
        self._bucket(call, name)
        if call.json.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled"):
            self.uniform.add(name)
        return self._bucket_of(name)

    def _default_bucket(self, call: Call) -> Any:
        name = f"{self.project}.firebasestorage.app"
        if "location" not in call.json:
            raise Refusal(400, "INVALID_ARGUMENT", "A location is required.")
        self.buckets.add(name)
        return {"name": f"projects/{self.project}/defaultBucket", "bucket": {"name": name}, **call.json}

    def _create_bucket(self, call: Call) -> Any:
        self.buckets.add(call.json["name"])
        return self._bucket_of(call.json["name"])

    def _upload(self, call: Call, bucket: str) -> Any:
        if call.query.get("uploadType") == "resumable":
            session = f"s{len(self._sessions)}"
            self._sessions[session] = f"{bucket}/{call.query.get('name') or call.json.get('name')}"
            call.answer_headers["Location"] = f"http://{call.host}{call.path}?upload_id={session}"
            return {}
        name, data = _multipart(call)
        return self._put(f"{bucket}/{name or call.query['name']}", data)

    def _resume(self, call: Call, _: str) -> Any:
        return self._put(self._sessions[call.query["upload_id"]], call.body)

    def _put(self, where: str, data: bytes) -> Any:
        self._objects[where] = data
        self.uploads.append(sorted(_names(data)))
        return self._object_of(where)

    def _object(self, _: Call, bucket: str, name: str) -> Any:
        if f"{bucket}/{name}" not in self._objects:
            raise not_found(name)
        return self._object_of(f"{bucket}/{name}")

    def put(self, where: str) -> None:
        """An object of somebody's, at "bucket/name"."""
        self._objects[where] = b""

    def _list_objects(self, _: Call, bucket: str) -> Any:
        self.check_bucket(bucket)
        there = [self._object_of(where) for where in self._objects if where.startswith(f"{bucket}/")]
        return {"kind": "storage#objects", "items": there}

    def _object_of(self, where: str) -> Any:
        bucket, _, name = where.partition("/")
        return {"bucket": bucket, "name": name, "generation": "1", "size": str(len(self._objects[where]))}

    def _submit(self, call: Call, region: str) -> Any:
        """A build: the image's digest is that of what was uploaded."""
        body = call.json
        source = body["storageSource"]
        self._check_builder(body["serviceAccount"].rpartition("/")[2])
        data = self._objects[f"{source['bucket']}/{source['object']}"]
        names = set(_names(data))
        if "dockerBuild" in body and "Dockerfile" not in names:
            raise Refusal(400, "INVALID_ARGUMENT", "There is no Dockerfile.")
        if "buildpackBuild" in body and not {"main.py", "requirements.txt"} <= names:
            raise Refusal(400, "INVALID_ARGUMENT", "There is no main.py.")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        build = f"projects/{self.project}/locations/{region}/builds/b{len(self._builds)}"
        result = {
            "@type": "type.googleapis.com/google.devtools.cloudbuild.v1.Build",
            "id": build.rpartition("/")[2],
            "projectId": self.project,
            "name": build,
            "status": "SUCCESS",
            "results": {"images": [{"name": body["imageUri"], "digest": digest}]},
        }
        operation = f"projects/{self.project}/locations/{region}/operations/{build.rpartition('/')[2]}"
        self._builds[build.rpartition("/")[2]] = {"name": operation, "done": True, "response": result}
        metadata = {
            "@type": "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata",
            "build": result,
        }
        answer = {"buildOperation": {"name": operation, "metadata": metadata}}
        return {**answer, "baseImageUri": body.get("buildpackBuild", {}).get("baseImage", "")}

    def _check_builder(self, email: str) -> None:
        """The account needs its role, and that takes a while to hold
        (https://cloud.google.com/run/docs/troubleshooting#user-build-error)."""
        self._run.check_account(email)
        account = self._run.account
        if ("roles/run.builder", None) not in account.roles_of(email) or account.is_late("build"):
            raise Refusal(
                *(403, "PERMISSION_DENIED"),
                f"Build failed because the service account is missing required IAM permissions: {email}. For "
                "troubleshooting guidance, see https://cloud.google.com/run/docs/troubleshooting#builds",
            )

    def _operation(self, _: Call, name: str) -> Any:
        return self._builds[name]


def _multipart(call: Call) -> tuple[str | None, bytes]:
    """The name and the bytes of a multipart upload: its first part is the metadata, its second the data."""
    boundary = call.headers["content-type"].partition("boundary=")[2].strip("'\"").encode()
    parts = call.body.split(b"--" + boundary)[1:3]
    first, second = (re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in parts)
    return json.loads(first).get("name"), re.sub(rb"\r?\n\Z", b"", second)


def _names(data: bytes) -> list[str]:
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [member.name.removeprefix("./") for member in archive.getmembers() if member.isfile()]
