"""Who may join an app, as its document ``apps/{app}`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Forbidden

__all__ = ["ROLES", "Join", "Policy"]

Join = Literal["open", "invite", "domain"]

ROLES = ("viewer", "member", "editor", "admin")
"""The roles of an app that names none, the least first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``join`` and what it needs.

    ``tenant`` is the Identity Platform tenant whose users alone the app takes. ``roles`` has the app's roles, the least
    first.
    """

    join: Join = "invite"
    domains: tuple[str, ...] = ()
    tenant: str | None = None
    roles: tuple[str, ...] = ROLES

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Policy:
        """The policy that an app's document holds; anything it does not say clearly lets nobody in uninvited."""
        join, domains, tenant = data.get("join"), data.get("domains"), data.get("tenant")
        named = tuple(d.lower() for d in domains if isinstance(d, str) and d) if isinstance(domains, list) else ()
        roles = data.get("roles")
        ranked = tuple(roles) if isinstance(roles, list) else ROLES
        return cls(
            join=join if join in ("open", "domain") else "invite",
            domains=named,
            tenant=tenant if isinstance(tenant, str) and tenant else None,
            roles=ranked if all(isinstance(role, str) for role in ranked) else ROLES,
        )

    def data(self) -> dict[str, Any]:
        """The fields of the app's document that :meth:`of` reads."""
        return {"join": self.join, "domains": list(self.domains), "tenant": self.tenant, "roles": list(self.roles)}

    def better(self, held: str | None, offered: str) -> str:
        """Of the role that somebody has and one that they are offered, the one they should have.

        It is the offered one only where that is more by ``roles``: "admin" is the most, and "member" the least where
        ``roles`` do not name it. Of two that cannot be compared it is the one they have.
        """
        if held is None or offered == "admin":
            return offered
        if held == "admin":
            return held
        if held in self.roles and offered in self.roles:
            return max(held, offered, key=self.roles.index)
        return offered if held == "member" and offered not in self.roles else held

    def check(self, email: str | None, *, verified: bool) -> None:
        """Let somebody in who holds no invitation.

        Args:
            email: the account's own address, and whether Firebase Auth has ``verified`` it.

        Raises:
            Forbidden: the policy does not; the message says what would.
        """
        if self.join == "open":
            return
        if self.join == "invite":
            raise Forbidden("This app takes members by invitation: send the code you were given as 'invite'.")
        if email is None or not verified:
            raise Forbidden("This app takes members by their e-mail address: verify yours first.")
        if email.rpartition("@")[2].lower() not in self.domains:
            raise Forbidden("This app does not take members from your e-mail address's domain.")
