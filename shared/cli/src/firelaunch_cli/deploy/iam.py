"""Service accounts and what they may: least privilege, and nothing that would reach another app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .gcloud import Command, gcloud
from .resources import ACCOUNT_USER, AUTH_ADMIN, FORBIDDEN_ROLES, TOKEN_CREATOR, Place, Role, Service
from .steps import Grant, Step

__all__ = ["account", "binds", "condition_of", "may_act_as", "no_more_rights", "roles", "signs_for_nobody"]


def account(place: Place, name: str, title: str) -> Step:
    """A service account."""
    create = gcloud("iam", "service-accounts", "create", name, f"--display-name={title}", project=place.project)
    return Step(
        f"service account {name}",
        (gcloud("iam", "service-accounts", "list", project=place.project),),
        lacks=lambda a: [] if any(x["email"] == place.email(name) for x in a[0] or []) else [create],
        mend=f"ask for roles/iam.serviceAccountAdmin in {place.project}",
    )


def roles(place: Place, name: str, wanted: tuple[Role, ...]) -> Step:
    """The roles of the account ``name`` in the project."""
    grants = tuple(Grant(name, role.name, _where(role)) for role in wanted)
    return Step(
        f"roles of {name}: {', '.join(map(str, grants))}",
        (_policy(place),),
        lacks=lambda a: [_bind(place, name, role) for role in wanted if not _holds(place, name, role, a[0])],
        mend=f"ask for roles/resourcemanager.projectIamAdmin in {place.project}",
        grants=grants,
    )


def no_more_rights(place: Place, service: Service) -> Step:
    """Wall 4: what a service's account may not hold, and what nobody's but the membership function's may.

    What brings a service its jobs is held to the same: the service can have Cloud Tasks call Google in that one's name.
    """
    allowed = {place.member(service.account): {(role.name, _condition(place, role)) for role in service.roles}}
    if service.work:
        allowed[place.member(service.work.account)] = set()

    def wrong(answers: Sequence[Any]) -> str | None:
        for binding in (answers[0] or {}).get("bindings", []):
            role, condition = binding["role"], binding.get("condition", {}).get("expression")
            members = binding.get("members", [])
            for own in allowed.keys() & set(members):
                if role in FORBIDDEN_ROLES and (role, condition) not in allowed[own]:
                    return f"{own} holds {role}{_on(condition)}, by which it reaches more than its own"
            others = [m for m in members if m.startswith(("serviceAccount:fl-app-", "serviceAccount:fl-job-"))]
            if role == AUTH_ADMIN and others:
                return f"{others[0]} holds {role}, by which it could make itself a member of any app"
        return None

    return Step(
        f"no rights of {' or '.join(_accounts(service))} beyond what a deploy gives",
        (_policy(place),),
        refuses=wrong,
        mend=f"gcloud projects remove-iam-policy-binding {place.project} --member=MEMBER --role=ROLE --all; "
        "then deploy again, which gives back what it needs",
    )


def signs_for_nobody(place: Place, service: Service) -> Step:
    """Whether no account of the service may sign as the service's account: see :func:`_signer`."""
    return Step(
        f"no right of {' or '.join(_accounts(service))} to sign as {service.account}",
        (_policy_of(place, service.account),),
        refuses=lambda a: _signer(place, service, service.account, a[0]),
        mend=_no_signer(place, service.account),
    )


def may_act_as(place: Place, name: str, service: Service) -> Step:
    """Whether the service may have things done in the name of the account ``name``, and may not sign as it."""
    email, member = place.email(name), place.member(service.account)
    bind = gcloud(
        *("iam", "service-accounts", "add-iam-policy-binding", email),
        *(f"--member={member}", f"--role={ACCOUNT_USER}", "--condition=None"),
        project=place.project,
    )
    return Step(
        f"{service.account} may have jobs brought in the name of {name}: {ACCOUNT_USER}",
        (_policy_of(place, name),),
        lacks=lambda a: [] if binds(a[0], ACCOUNT_USER, member) else [bind],
        refuses=lambda a: _signer(place, service, name, a[0]),
        mend=f"ask for roles/iam.serviceAccountAdmin in {place.project}; where it may sign: {_no_signer(place, name)}",
        grants=(Grant(service.account, ACCOUNT_USER, name),),
    )


def _signer(place: Place, service: Service, name: str, policy: Any) -> str | None:
    """Return what is wrong where an account of the service may sign as the account ``name``; None where none may.

    Whoever may sign as any account of the project can make custom tokens, with which Firebase signs in anybody, with
    any claims (https://firebase.google.com/docs/auth/admin/create-custom-tokens): as an admin of any app.
    """
    members = map(place.member, _accounts(service))
    signers = [member for member in members if binds(policy, TOKEN_CREATOR, member)]
    email = place.email(name)
    return f"{signers[0]} holds {TOKEN_CREATOR} on {email}, by which it could sign in as anybody" if signers else None


def _accounts(service: Service) -> list[str]:
    return [service.account, *([service.work.account] if service.work else [])]


def _no_signer(place: Place, name: str) -> str:
    return (
        f"gcloud iam service-accounts remove-iam-policy-binding {place.email(name)} --project={place.project} "
        f"--member=MEMBER --role={TOKEN_CREATOR}"
    )


def binds(policy: Any, role: str, member: str) -> bool:
    """Whether a policy gives a role to a member, on no condition."""
    return any(
        binding["role"] == role and member in binding.get("members", []) and "condition" not in binding
        for binding in (policy or {}).get("bindings", [])
    )


def condition_of(place: Place, role: Role) -> dict[str, str] | None:
    """The IAM condition on which a role is held: its title and expression; None where there is none."""
    expression = _condition(place, role)
    return {"title": f"firelaunch-{_title(role)}", "expression": expression} if expression else None


def _policy(place: Place) -> Command:
    return gcloud("projects", "get-iam-policy", place.project, project=place.project)


def _policy_of(place: Place, name: str) -> Command:
    return gcloud("iam", "service-accounts", "get-iam-policy", place.email(name), project=place.project)


def _bind(place: Place, name: str, role: Role) -> Command:
    found = condition_of(place, role)
    # An expression may hold commas, so that another sign is between the two (gcloud topic escaping).
    condition = f"^;^expression={found['expression']};title={found['title']}" if found else "None"
    return gcloud(
        *("projects", "add-iam-policy-binding", place.project),
        *(f"--member={place.member(name)}", f"--role={role.name}", f"--condition={condition}"),
        project=place.project,
    )


def _where(role: Role) -> str:
    if role.bucket:
        return f"folder {role.folder}"
    return f"database {role.database}" if role.database else ""


def _title(role: Role) -> str:
    if role.bucket:
        return "files"
    return "default" if role.database == "(default)" else str(role.database)


def _condition(place: Place, role: Role) -> str | None:
    if role.bucket:
        return place.below(role.bucket, role.folder)
    return place.only(role.database) if role.database else None


def _holds(place: Place, name: str, role: Role, policy: Any) -> bool:
    return any(
        binding["role"] == role.name
        and binding.get("condition", {}).get("expression") == _condition(place, role)
        and place.member(name) in binding.get("members", [])
        for binding in (policy or {}).get("bindings", [])
    )


def _on(condition: str | None) -> str:
    return f" where {condition}" if condition else " without a condition"
