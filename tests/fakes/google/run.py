"""Cloud Run: services, revisions and traffic, by the Knative API that gcloud speaks; and the services' own URLs."""

from __future__ import annotations

import copy
import re
from typing import Any, Protocol

from .base import Call, Refusal, Route, exists, not_found, violation
from .project import Project
from .quotas import Quotas

__all__ = ["Host", "Run"]


class Host(Protocol):
    """Runs revisions as containers."""

    def start(self, service: str, revision: str, template: dict[str, Any]) -> None:
        """Begin to run a revision."""

    def address(self, revision: str) -> str:
        """Where it answers, once it is up."""

    def stop(self, service: str) -> None:
        """End all revisions of a service."""


class Run:
    """State and routes.

    Attributes:
        breaking: whether revisions made from now on answer 500, as a service does that cannot reach its database.
    """

    def __init__(self, project: str, account: Project, quotas: Quotas | None = None) -> None:
        self.project = project
        self._quotas = quotas or Quotas(project, account)
        self.services: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.breaking = False
        self._broken: set[str] = set()
        self._leaking: set[str] = set()
        self.served: list[str] = []
        """Requests to revisions, as "METHOD revision/path"."""
        self.account = account
        self.host: Host | None = None
        """Runs the revisions; without one, what they answer is known here."""
        self.moves_traffic = True
        """Whether traffic goes where it is sent."""

    def routes(self) -> list[Route]:
        """Every route."""
        host = "([a-z0-9-]+)-run.googleapis.com"
        names = rf"{host}/apis/serving.knative.dev/v1/namespaces/{self.project}"
        second = f"run.googleapis.com/v2/projects/{self.project}/locations"
        policy = rf"((?:[a-z0-9-]+-)?run).googleapis.com/v1/projects/{self.project}/locations/[^/]+/services/([^/:]+)"
        return [
            Route("GET", names + "/services", self._list, "run.services.list"),
            Route("GET", names + "/services/([^/]+)", self._get, "run.services.get"),
            Route("POST", names + "/services", self._create, "run.services.create"),
            Route("PUT", names + "/services/([^/]+)", self._replace, "run.services.update"),
            Route("GET", names + "/revisions/([^/]+)", self._revision, "run.revisions.get"),
            Route("GET", second + "/-/services", self._list_all, "run.services.list"),
            Route("GET", second + "/([^/]+)/services/([^/:]+)", self._get_second, "run.services.get"),
            Route("DELETE", second + "/([^/]+)/services/([^/:]+)", self._delete, "run.services.delete"),
            Route("GET", policy + ":getIamPolicy", self._get_policy, "run.services.getIamPolicy"),
            Route("POST", policy + ":setIamPolicy", self._set_policy, "run.services.setIamPolicy"),
            Route("POST", policy + ":testIamPermissions", lambda call, *_: call.json, "run.services.get"),
        ]

    def leak(self, revision: str) -> None:
        """Have a revision let anybody in."""
        self._leaking.add(revision)

    def check_account(self, email: str) -> None:
        """Refuses a service account that there is none of."""
        if email not in self.account.accounts:
            raise Refusal(404, "NOT_FOUND", f"Service account {email} does not exist.")

    def traffic(self, name: str) -> dict[str, int]:
        """The percentage that each revision gets, where it gets any."""
        targets = self.services[name]["status"]["traffic"]
        return {t["revisionName"]: t["percent"] for t in targets if t.get("percent")}

    def public(self, name: str) -> bool:
        """Whether anybody may call a service."""
        if _unchecked(self.services.get(name, {})):
            return True
        bindings = self.policies.get(name, {}).get("bindings", [])
        return any(b["role"] == "roles/run.invoker" and "allUsers" in b["members"] for b in bindings)

    def _list(self, _: Call, region: str) -> Any:
        items = [
            s for s in self.services.values() if s["metadata"]["labels"]["cloud.googleapis.com/location"] == region
        ]
        return {"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "metadata": {}, "items": items}

    def _get(self, _: Call, region: str, name: str) -> Any:
        if name not in self.services:
            raise not_found(f"Resource '{name}' of kind 'SERVICE' in region '{region}' in project '{self.project}'")
        return self.services[name]

    def _list_all(self, _: Call) -> Any:
        """By the second version of the API, which takes all regions at once."""
        return {"services": [self._second(name) for name in self.services]}

    def _get_second(self, call: Call, region: str, name: str) -> Any:
        self._get(call, region, name)
        return self._second(name)

    def _second(self, name: str) -> Any:
        metadata = self.services[name]["metadata"]
        region = metadata["labels"]["cloud.googleapis.com/location"]
        labels = {key: value for key, value in metadata["labels"].items() if "googleapis.com/" not in key}
        return {"name": f"projects/{self.project}/locations/{region}/services/{name}", "labels": labels}

    def _delete(self, call: Call, region: str, name: str) -> Any:
        self._get(call, region, name)
        del self.services[name]
        self.policies.pop(name, None)
        if self.host:
            self.host.stop(name)
        operation = f"projects/{self.project}/locations/{region}/operations/{name}"
        return {"name": operation, "done": True, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}

    def _create(self, call: Call, region: str) -> Any:
        body = call.json
        name = body["metadata"]["name"]
        if name in self.services:
            raise exists(name)
        return self._accept(name, body, region, None)

    def _replace(self, call: Call, region: str, name: str) -> Any:
        before = self._get(call, region, name)
        if call.json["metadata"].get("resourceVersion") not in (None, before["metadata"]["resourceVersion"]):
            raise Refusal(409, "ABORTED", "Conflict for resource: the resource version is another.")
        return self._accept(name, call.json, region, before)

    def _accept(self, name: str, body: dict[str, Any], region: str, before: dict[str, Any] | None) -> Any:
        body = copy.deepcopy(body)
        template = body["spec"]["template"]
        self.check_account(template["spec"]["serviceAccountName"])
        if _unchecked(body) and not _unchecked(before or {}):
            self._check_opening()
        problem = self._secret_problem(template)
        self._check_quota(template, region)
        generation = before["metadata"]["generation"] + 1 if before else 1
        status = before["status"] if before else {}
        latest = status.get("latestCreatedRevisionName", "")
        if before is None or _is_new(template, before["spec"]["template"]):
            latest = template["metadata"].get("name") or f"{name}-{generation:05d}-abc"
            self._broken |= {latest} if self.breaking else set()
            self.revisions[latest] = self._made(latest, template)
        body["metadata"] |= {
            "namespace": "1234",
            "generation": generation,
            "resourceVersion": f"v{generation}",
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00.000000Z",
        }
        body["metadata"].setdefault("labels", {})["cloud.googleapis.com/location"] = region
        body["spec"].setdefault("traffic", [{"percent": 100, "latestRevision": True}])
        if before and not self.moves_traffic:
            body["spec"]["traffic"] = before["spec"]["traffic"]
        body["status"] = self._status(name, body["spec"]["traffic"], latest, generation)
        if problem:
            _fail(body["status"], f"Revision '{latest}' is not ready and cannot serve traffic. {problem}", status)
        elif self.host and latest != status.get("latestCreatedRevisionName", ""):
            self.host.start(name, latest, template)
        self.services[name] = body
        return body

    def _status(self, name: str, traffic: list[dict[str, Any]], latest: str, generation: int) -> dict[str, Any]:
        condition = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00.000000Z"}
        targets = []
        for target in traffic:
            resolved = {**target, "revisionName": target.get("revisionName") or latest}
            if "tag" in target:
                resolved["url"] = f"http://{target['tag']}---{name}-x.a.run.app"
            targets.append(resolved)
        return {
            "observedGeneration": generation,
            "conditions": [{"type": kind, **condition} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")],
            "latestCreatedRevisionName": latest,
            "latestReadyRevisionName": latest,
            "url": f"http://{name}-x.a.run.app",
            "address": {"url": f"http://{name}-x.a.run.app"},
            "traffic": targets,
        }

    def _check_opening(self) -> None:
        """Who may end the check of callers, and where (https://cloud.google.com/run/docs/authenticating/public)."""
        if "run.services.setIamPolicy" in self.account.denied:
            raise Refusal(403, "PERMISSION_DENIED", "Permission 'run.services.setIamPolicy' denied on resource.")
        if self.account.checks_callers:
            raise violation("constraints/run.managed.requireInvokerIam", "The service has to check its callers.")

    def _secret_problem(self, template: dict[str, Any]) -> str | None:
        """A revision does not come up whose account may not read its secrets; the service is there all the same."""
        account = template["spec"]["serviceAccountName"]
        for number, variable in enumerate(template["spec"]["containers"][0].get("env", [])):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                continue
            name, version = reference["name"], reference["key"]
            where = f"spec.template.spec.containers[0].env[{number}].value_from.secret_key_ref.name"
            whole = f"projects/1234/secrets/{name}/versions/{version}"
            versions = self.account.secrets.get(name, [])
            if not versions or (version != "latest" and int(version) > len(versions)):
                return f"{where}: Secret {whole} was not found"
            bindings = self.account.secret_policies[name]["bindings"]
            held = any(f"serviceAccount:{account}" in b["members"] for b in bindings)
            if not held or self.account.is_late("secret"):
                return (
                    f"{where}: Permission denied on secret: {whole} for Revision service account {account}. The "
                    "service account used must be granted the 'Secret Manager Secret Accessor' role "
                    "(roles/secretmanager.secretAccessor) at the secret, project or higher level."
                )
        return None

    def _check_quota(self, template: dict[str, Any], region: str) -> None:
        """The instances that one service may have are held against the whole region's quota."""
        instances = int(template["metadata"].get("annotations", {}).get("autoscaling.knative.dev/maxScale", 100))
        cpu = template["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("cpu", "1")
        milli = int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1_000)
        allowed = self._quotas.limit("CpuAllocPerProjectRegion", region)
        if allowed is not None and instances * milli > allowed:
            raise Refusal(
                *(400, "INVALID_ARGUMENT"),
                f"Max instances must be set to {allowed // milli} or fewer to set the requested total CPU.\n\n"
                f"Quota violated:\nCpuAllocPerProjectRegion requested: {instances * milli} allowed: {allowed}",
            )

    def _made(self, name: str, template: dict[str, Any]) -> dict[str, Any]:
        """A revision: its template as it was then, and a later time than all before it."""
        seconds = len(self.revisions) + 1
        made = f"2026-01-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.000000Z"
        metadata = {**copy.deepcopy(template["metadata"]), "name": name, "creationTimestamp": made}
        condition = {"type": "Ready", "status": "True"}
        return {"kind": "Revision", "metadata": metadata, "status": {"conditions": [condition]}, "spec": {}}

    def _revision(self, _: Call, region: str, name: str) -> Any:
        if name not in self.revisions:
            raise not_found(f"Resource '{name}' of kind 'REVISION' in region '{region}' in project '{self.project}'")
        return self.revisions[name]

    def _get_policy(self, _: Call, __: str, name: str) -> Any:
        return self.policies.get(name, {"etag": "BwAAAAAA"})

    def _set_policy(self, call: Call, region: str, name: str) -> Any:
        self._get(call, region, name)
        self.account.check_members(call.json["policy"])
        self.policies[name] = call.json["policy"]
        return self.policies[name]

    def upstream(self, call: Call) -> str | None:
        """Where the revision runs that a request goes to; None where it is refused, or nothing runs here."""
        name, found = self._addressed(call)
        return self.host.address(found[0]) if self.host and found and self.public(name) else None

    def _addressed(self, call: Call) -> tuple[str, list[str]]:
        """The service of a request's host name, and its revision, if there is one."""
        tag, _, rest = call.host.rpartition("---")
        name = re.sub(r"(?:-x\.a|-1234\.[a-z0-9-]+)\.run\.app$", "", rest)
        targets = self.services.get(name, {"status": {"traffic": []}})["status"]["traffic"]
        found = [t["revisionName"] for t in targets if (t.get("tag") == tag if tag else t.get("percent") == 100)]
        return name, found

    def serve(self, call: Call) -> tuple[int, Any]:
        """A request to a service, as a working app or function of ours answers it."""
        name, found = self._addressed(call)
        if not found:
            return 404, {"error": "no such revision"}
        if not self.public(name) and "x-serverless-authorization" not in call.headers:
            return 403, {"error": "Your client does not have permission to get this URL from this server."}
        self.served.append(f"{call.method} {found[0]}{call.path}")
        if found[0] in self._broken:
            return 500, {"error": {"code": "internal", "message": "The database does not answer."}}
        if call.path == "/ready":
            return 200, {"status": "ready", "app": name, "model": "openai"}
        if call.path == "/dev/token":
            return 404, {"error": {"code": "not_found"}}
        return (200, {}) if found[0] in self._leaking else (401, {"error": {"code": "unauthenticated"}})


def _unchecked(service: dict[str, Any]) -> bool:
    annotations = service.get("metadata", {}).get("annotations", {})
    return str(annotations.get("run.googleapis.com/invoker-iam-disabled")).lower() == "true"  # gcloud writes "True"


def _fail(status: dict[str, Any], message: str, before: dict[str, Any]) -> None:
    """Have a service's latest revision not come up."""
    for condition in status["conditions"]:
        condition |= {"status": "False", "reason": "SecretsAccessCheckFailed", "message": message}
    status.pop("latestReadyRevisionName", None)
    if before.get("latestReadyRevisionName"):
        status["latestReadyRevisionName"] = before["latestReadyRevisionName"]


def _is_new(template: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a template makes a revision: it has other contents, or a name that its revision does not have yet."""
    name = template["metadata"].get("name")
    return _content(template) != _content(before) or name not in (None, before["metadata"].get("name"))


def _content(template: dict[str, Any]) -> Any:
    """What makes a new revision when it changes; its name is not of it."""
    metadata = {key: value for key, value in template["metadata"].items() if key != "name"}
    return metadata, template["spec"]
