"""Cloud Storage and Cloud Build: what ``gcloud run deploy --source`` uploads, and the image it becomes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

from .base import Call, Refusal, Route, exists, not_found
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
        self.contents: dict[str, dict[str, bytes]] = {}
        """The objects of each bucket, by name; another server's may take the place of a bucket's."""
        self.labels: dict[str, dict[str, str]] = {}
        """Of each bucket that has any."""
        self.stored: Callable[[str, str], object] = lambda _bucket, _name: None
        """Is told of each new object."""
        self.images: dict[str, bytes] = {}
        """What each image was built from, by its digest."""
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
            Route("DELETE", storage + "/([^/]+)", self._delete_bucket, "storage.buckets.delete"),
            Route(
                "DELETE", storage + "/([^/]+)/o/(.+)", self._delete_object, "storage.objects.delete", guarded=_object
            ),
            Route(
                "POST",
                f"firebasestorage.googleapis.com/v1alpha/projects/{self.project}/defaultBucket",
                self._default_bucket,
                "firebasestorage.defaultBucket.create",
            ),
            Route("POST", upload + "/([^/]+)/o", self._upload, "storage.objects.create", guarded=_object),
            Route("PUT", upload + "/([^/]+)/o", self._resume, "storage.objects.create"),
            Route("GET", storage + "/([^/]+)/o", self._list_objects, "storage.objects.list", guarded=_listed),
            Route("GET", storage + "/([^/]+)/o/(.+)", self._object, "storage.objects.get", guarded=_object),
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
        labels = {"labels": self.labels[name]} if name in self.labels else {}
        return {"kind": "storage#bucket", "id": name, "name": name, "iamConfiguration": uniform, **known, **labels}

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
        name = call.json["name"]
        if name in self.buckets:
            raise exists(f"Bucket {name}")
        self.buckets.add(name)
        if call.json.get("labels"):
            self.labels[name] = call.json["labels"]
        if call.json.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled"):
            self.uniform.add(name)
        return self._bucket_of(name)

    def _delete_bucket(self, _: Call, name: str) -> Any:
        self.check_bucket(name)
        if self.objects_of(name):
            raise Refusal(409, "FAILED_PRECONDITION", "The bucket you tried to delete is not empty.")
        self.buckets.discard(name)
        self.uniform.discard(name)
        self.labels.pop(name, None)
        return b""

    def _delete_object(self, _: Call, bucket: str, name: str) -> Any:
        if self.objects_of(bucket).pop(name, None) is None:
            raise not_found(name)
        return b""

    def objects_of(self, bucket: str) -> dict[str, bytes]:
        """What a bucket holds, by name."""
        return self.contents.setdefault(bucket, {})

    def _upload(self, call: Call, bucket: str) -> Any:
        if call.query.get("uploadType") == "resumable":
            session = f"s{len(self._sessions)}"
            self._sessions[session] = f"{bucket}/{call.query.get('name') or call.json.get('name')}"
            call.answer_headers["Location"] = f"http://{call.host}{call.path}?upload_id={session}"
            return {}
        if call.query.get("uploadType") == "media":
            return self._put(f"{bucket}/{call.query['name']}", call.body)
        name, data = _multipart(call)
        return self._put(f"{bucket}/{name or call.query['name']}", data)

    def _resume(self, call: Call, _: str) -> Any:
        return self._put(self._sessions[call.query["upload_id"]], call.body)

    def _put(self, where: str, data: bytes) -> Any:
        bucket, name = where.split("/", 1)
        self.objects_of(bucket)[name] = data
        self.uploads.append(sorted(_names(data))) if _is_archive(data) else self.stored(bucket, name)
        return self._object_of(bucket, name)

    def _object(self, _: Call, bucket: str, name: str) -> Any:
        if name not in self.objects_of(bucket):
            raise not_found(name)
        return self._object_of(bucket, name)

    def put(self, where: str) -> None:
        """An object of somebody's, at "bucket/name"."""
        bucket, name = where.split("/", 1)
        self.objects_of(bucket)[name] = b""

    def _list_objects(self, call: Call, bucket: str) -> Any:
        self.check_bucket(bucket)
        prefix = call.query.get("prefix", "")
        there = [self._object_of(bucket, name) for name in self.objects_of(bucket) if name.startswith(prefix)]
        return {"kind": "storage#objects", "items": there}

    def _object_of(self, bucket: str, name: str) -> Any:
        return {"bucket": bucket, "name": name, "generation": "1", "size": str(len(self.objects_of(bucket)[name]))}

    def _submit(self, call: Call, region: str) -> Any:
        """A build: the image's digest is that of what was uploaded."""
        body = call.json
        source = body["storageSource"]
        self._check_builder(body["serviceAccount"].rpartition("/")[2])
        data = self.objects_of(source["bucket"])[source["object"]]
        names = set(_names(data))
        if "dockerBuild" in body and "Dockerfile" not in names:
            raise Refusal(400, "INVALID_ARGUMENT", "There is no Dockerfile.")
        if "buildpackBuild" in body and not {"main.py", "requirements.txt"} <= names:
            raise Refusal(400, "INVALID_ARGUMENT", "There is no main.py.")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.images[digest] = data
        self._run.account.packages.add(_package(body["imageUri"]))
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


def _object(call: Call, bucket: str, name: str = "") -> tuple[str, str, str | None]:
    """What an account needs for an object."""
    return "roles/storage.objectUser", f"projects/_/buckets/{bucket}/objects/{name or call.query.get('name', '')}", None


def _listed(call: Call, bucket: str) -> tuple[str, str, str | None]:
    """What an account needs for a list."""
    return "roles/storage.objectUser", f"projects/_/buckets/{bucket}", call.query.get("prefix", "")


def _is_archive(data: bytes) -> bool:
    return data[:2] in (b"PK", b"\x1f\x8b")


def _package(uri: str) -> str:
    """The package of Artifact Registry that holds an image."""
    host, project, repository, image = uri.split(":")[0].split("@")[0].split("/", 3)
    region = host.removesuffix("-docker.pkg.dev")
    return f"projects/{project}/locations/{region}/repositories/{repository}/packages/{image}"


def _names(data: bytes) -> list[str]:
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [member.name.removeprefix("./") for member in archive.getmembers() if member.isfile()]
