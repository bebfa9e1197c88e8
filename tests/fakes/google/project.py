"""The project itself: billing, APIs, IAM, service accounts, secrets, image repositories."""

from __future__ import annotations

import base64
from typing import Any

from .base import Call, Refusal, Route, done, exists, not_found, violation

__all__ = ["Project"]


class Project:
    """Its state, and the routes of the APIs that show and change it."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.billing = True
        self.lacks: set[str] = set()
        """Permissions that testIamPermissions does not give back."""
        self.apis: set[str] = {"cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com"}
        self.policy: dict[str, Any] = {"version": 1, "etag": "BwAAAAAA", "bindings": []}
        self.firebase = False
        """Whether Firebase was added to it."""
        self.accounts: list[str] = []
        self.agents: set[str] = set()
        """Accounts of Google's own services."""
        self.account_policies: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, list[str]] = {}
        self.secret_policies: dict[str, dict[str, Any]] = {}
        self.repositories: list[str] = []
        self.packages: set[str] = set()
        """Of images, by their whole names."""
        self.denied: set[str] = set()
        """Permissions that whoever calls does not have, whatever testIamPermissions says."""
        self.own_members_only = False
        """Whether the organization's policy lets only its own members into policies (domain-restricted sharing)."""
        self.checks_callers = False
        """Whether the organization's policy has every Cloud Run service check its callers."""
        self.late: dict[str, int] = {}
        """What does not hold yet, and how often it is still refused: an API by its name, a new "account", a "secret"'s
        reader, the "build" account's rights, Google's own account for "eventarc", the settings of "auth"."""

    def routes(self) -> list[Route]:
        """Every route."""
        project = self.project
        crm = "cloudresourcemanager.googleapis.com/v1/projects/"
        usage = f"serviceusage.googleapis.com/v1/projects/(?:{project}|1234)/services"
        iam = f"iam.googleapis.com/v1/projects/{project}/serviceAccounts"
        secrets = f"secretmanager.googleapis.com/v1/projects/{project}/secrets"
        registry = f"artifactregistry.googleapis.com/v1/projects/{project}/locations/([^/]+)/repositories"
        return [
            Route("GET", crm + "([^/:]+)", self._get, "resourcemanager.projects.get"),
            Route("POST", crm + "([^/:]+):testIamPermissions", self._test),
            Route(
                "POST", crm + "([^/:]+):getIamPolicy", lambda *_: self.policy, "resourcemanager.projects.getIamPolicy"
            ),
            Route("POST", crm + "([^/:]+):setIamPolicy", self._set_policy, "resourcemanager.projects.setIamPolicy"),
            Route(
                *("GET", f"cloudbilling.googleapis.com/v1/projects/{project}/billingInfo"),
                *(self._billing, "resourcemanager.projects.get"),
            ),
            Route("GET", usage, self._list_apis, "serviceusage.services.list"),
            Route("GET", usage + "/([^/:]+)", self._api, "serviceusage.services.get"),
            Route("POST", usage + ":batchEnable", self._enable, "serviceusage.services.enable"),
            Route("POST", usage + "/([^/:]+):enable", self._enable, "serviceusage.services.enable"),
            Route(
                *("GET", "serviceusage.googleapis.com/v1/operations/done"),
                *(lambda *_: done({}), "serviceusage.services.get"),
            ),
            Route("GET", iam, self._list_accounts, "iam.serviceAccounts.list"),
            Route(
                *("GET", "iam.googleapis.com/v1/projects/-/serviceAccounts/([^/:]+)"),
                *(self._get_account, "iam.serviceAccounts.get"),
            ),
            Route(
                "POST",
                r"iam.googleapis.com/v1/projects/[^/]+/serviceAccounts/([^/:]+):getIamPolicy",
                self._account_policy,
                "iam.serviceAccounts.getIamPolicy",
            ),
            Route(
                "POST",
                r"iam.googleapis.com/v1/projects/[^/]+/serviceAccounts/([^/:]+):setIamPolicy",
                self._set_account_policy,
                "iam.serviceAccounts.setIamPolicy",
            ),
            Route("GET", iam + "/([^/:]+)", self._get_account, "iam.serviceAccounts.get"),
            Route("DELETE", iam + "/([^/:]+)", self._delete_account, "iam.serviceAccounts.delete"),
            Route("POST", iam, self._create_account, "iam.serviceAccounts.create"),
            Route("GET", secrets, self._list_secrets, "secretmanager.secrets.list"),
            Route("POST", secrets, self._create_secret, "secretmanager.secrets.create"),
            Route("GET", secrets + "/([^/:]+)/versions", self._versions, "secretmanager.versions.list"),
            Route("POST", secrets + "/([^/:]+):addVersion", self._add_version, "secretmanager.versions.add"),
            Route("GET", secrets + "/([^/:]+):getIamPolicy", self._secret_policy, "secretmanager.secrets.getIamPolicy"),
            Route(
                "POST",
                secrets + "/([^/:]+):setIamPolicy",
                self._set_secret_policy,
                "secretmanager.secrets.setIamPolicy",
            ),
            Route("GET", registry, self._list_repositories, "artifactregistry.repositories.list"),
            Route("GET", registry + "/([^/:]+)", self._repository, "artifactregistry.repositories.get"),
            Route("GET", registry + "/([^/]+)/packages/([^/:]+)", self._package, "artifactregistry.packages.get"),
            Route(
                "DELETE",
                registry + "/([^/]+)/packages/([^/:]+)",
                self._delete_package,
                "artifactregistry.packages.delete",
            ),
            Route("POST", registry, self._create_repository, "artifactregistry.repositories.create"),
            Route("GET", "artifactregistry.googleapis.com/v1/projects/.*/operations/done", lambda *_: done({})),
        ]

    def roles_of(self, email: str) -> set[tuple[str, str | None]]:
        """The roles of a service account, each with the expression of its condition."""
        return {
            (binding["role"], binding.get("condition", {}).get("expression"))
            for binding in self.policy["bindings"]
            if f"serviceAccount:{email}" in binding["members"]
        }

    def is_late(self, what: str) -> bool:
        """Whether something was made or given, and does not hold everywhere yet. Each question brings it nearer."""
        left = self.late.get(what, 0)
        self.late[what] = max(left - 1, 0)
        return left > 0

    def _get(self, _: Call, project: str) -> Any:
        if project != self.project:
            raise Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")
        return {"projectId": project, "projectNumber": "1234", "lifecycleState": "ACTIVE", "name": project}

    def _account_policy(self, _: Call, email: str) -> Any:
        if email not in self.accounts:
            raise not_found(email)
        return self.account_policies.setdefault(email, {"etag": "BwAAAAAA", "bindings": []})

    def _set_account_policy(self, call: Call, email: str) -> Any:
        self.account_policies[email] = self.checked(call.json["policy"], self._account_policy(call, email))
        return self.account_policies[email]

    def _test(self, call: Call, _: str) -> Any:
        return {"permissions": [name for name in call.json["permissions"] if name not in self.lacks]}

    def _set_policy(self, call: Call, _: str) -> Any:
        self.policy = self.checked(call.json["policy"], self.policy)
        return self.policy

    def check_members(self, policy: dict[str, Any]) -> None:
        """Refuses whoever the organization's policy keeps out."""
        everybody = {"allUsers", "allAuthenticatedUsers"}
        if self.own_members_only and any(everybody & {*b["members"]} for b in policy.get("bindings", [])):
            raise violation(
                "constraints/iam.allowedPolicyMemberDomains",
                "One or more users named in the policy do not belong to a permitted customer,  perhaps due to an "
                "organization policy.",
            )

    def checked(self, policy: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """Refuses what IAM refuses (https://cloud.google.com/iam/docs/policies)."""
        self.check_members(policy)
        if policy.get("etag") != before["etag"]:
            raise Refusal(409, "ABORTED", "There were concurrent policy changes.")
        for binding in policy["bindings"]:
            if "condition" in binding and policy.get("version") != 3:
                raise Refusal(400, "INVALID_ARGUMENT", "Conditions need policy version 3.")
            for member in binding["members"]:
                kind, _, email = member.partition(":")
                known = email in {*self.accounts, *self.agents} and not self.is_late("account")
                if kind == "serviceAccount" and not known:
                    raise Refusal(400, "INVALID_ARGUMENT", f"Service account {email} does not exist.")
        return {**policy, "etag": base64.b64encode(f"{before['etag']}+".encode()[-9:]).decode()}

    def _billing(self, _: Call) -> Any:
        name = "billingAccounts/0-0-0" if self.billing else ""
        return {"projectId": self.project, "billingEnabled": self.billing, "billingAccountName": name}

    def _list_apis(self, _: Call) -> Any:
        return {"services": [self._api_of(name) for name in sorted(self.apis)]}

    def _api(self, _: Call, name: str) -> Any:
        return self._api_of(name)

    def _api_of(self, name: str) -> Any:
        state = "ENABLED" if name in self.apis else "DISABLED"
        return {"name": f"projects/1234/services/{name}", "config": {"name": name, "title": name}, "state": state}

    def _enable(self, call: Call, name: str | None = None) -> Any:
        if not self.billing:
            raise Refusal(400, "FAILED_PRECONDITION", "Billing account for project is not found.")
        self.apis |= set([name] if name else call.json["serviceIds"])
        return done({})

    def _list_accounts(self, _: Call) -> Any:
        return {
            "accounts": [{"name": f"projects/{self.project}/serviceAccounts/{x}", "email": x} for x in self.accounts]
        }

    def _get_account(self, _: Call, email: str) -> Any:
        if email not in self.accounts:
            raise not_found(email)
        return {"name": f"projects/{self.project}/serviceAccounts/{email}", "email": email}

    def _create_account(self, call: Call) -> Any:
        name = call.json["accountId"]
        if not 6 <= len(name) <= 30:
            raise Refusal(400, "INVALID_ARGUMENT", "The account ID does not have a length between 6 and 30.")
        email = f"{name}@{self.project}.iam.gserviceaccount.com"
        if email in self.accounts:
            raise exists(email)
        self.accounts.append(email)
        return {"name": f"projects/{self.project}/serviceAccounts/{email}", "email": email}

    def _delete_account(self, call: Call, email: str) -> Any:
        """Its bindings stay, under a name that says so (https://cloud.google.com/iam/docs/service-accounts-delete-undelete)."""
        self._get_account(call, email)
        self.accounts.remove(email)
        self.account_policies.pop(email, None)
        member = f"serviceAccount:{email}"
        for binding in self.policy["bindings"]:
            binding["members"] = [f"deleted:{each}?uid=1" if each == member else each for each in binding["members"]]
        return {}

    def _package(self, _: Call, region: str, repository: str, package: str) -> Any:
        whole = f"projects/{self.project}/locations/{region}/repositories/{repository}/packages/{package}"
        if whole not in self.packages:
            raise not_found(whole)
        return {"name": whole}

    def _delete_package(self, call: Call, region: str, repository: str, package: str) -> Any:
        self.packages.discard(self._package(call, region, repository, package)["name"])
        return {**done({}), "name": f"projects/{self.project}/locations/{region}/operations/done"}

    def _list_secrets(self, _: Call) -> Any:
        return {"secrets": [{"name": f"projects/1234/secrets/{name}"} for name in self.secrets]}

    def _create_secret(self, call: Call) -> Any:
        name = call.query["secretId"]
        if name in self.secrets:
            raise exists(name)
        self.secrets[name] = []
        self.secret_policies[name] = {"etag": "BwAAAAAA", "bindings": []}
        return {"name": f"projects/1234/secrets/{name}"}

    def _versions(self, _: Call, name: str) -> Any:
        if name not in self.secrets:
            raise not_found(name)
        count = len(self.secrets[name])
        return {
            "versions": [
                {"name": f"projects/1234/secrets/{name}/versions/{i}", "state": "ENABLED"} for i in range(count, 0, -1)
            ]
        }

    def _add_version(self, call: Call, name: str) -> Any:
        data = base64.b64decode(call.json["payload"]["data"]).decode()
        if not data:
            raise Refusal(400, "INVALID_ARGUMENT", "Payload is empty.")
        self.secrets[name].append(data)
        version = f"projects/1234/secrets/{name}/versions/{len(self.secrets[name])}"
        return {"name": version, "state": "ENABLED", "clientSpecifiedPayloadChecksum": True}

    def _secret_policy(self, _: Call, name: str) -> Any:
        if name not in self.secret_policies:
            raise not_found(f"Secret [projects/1234/secrets/{name}]")
        return self.secret_policies[name]

    def _set_secret_policy(self, call: Call, name: str) -> Any:
        self.secret_policies[name] = self.checked(call.json["policy"], self.secret_policies[name])
        return self.secret_policies[name]

    def _list_repositories(self, _: Call, region: str) -> Any:
        return {"repositories": [{"name": n, "format": "DOCKER"} for n in self.repositories if f"/{region}/" in n]}

    def _repository(self, _: Call, region: str, name: str) -> Any:
        whole = f"projects/{self.project}/locations/{region}/repositories/{name}"
        if whole not in self.repositories:
            raise not_found(whole)
        return {"name": whole, "format": "DOCKER"}

    def _create_repository(self, call: Call, region: str) -> Any:
        whole = f"projects/{self.project}/locations/{region}/repositories/{call.query['repositoryId']}"
        if whole in self.repositories:
            raise exists(whole)
        self.repositories.append(whole)
        operation = f"projects/{self.project}/locations/{region}/operations/done"
        kind = "type.googleapis.com/google.devtools.artifactregistry.v1.Repository"
        return {**done({"name": whole}, kind), "name": operation}
