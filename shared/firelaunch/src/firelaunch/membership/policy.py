"""The policy on who may join an app, from its document ``apps/{app}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Forbidden

__all__ = ["ROLES", "Join", "Policy"]

Join = Literal["open", "invite", "domain"]

ROLES = ("viewer", "member", "editor", "admin")
"""The roles of an app that names none, lowest first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The way to join an app (``join``), and its parameters.

    ``tenant`` is the only Identity Platform tenant whose users the app accepts. ``roles`` has the app's roles, lowest
    first.
    """

    join: Join = "invite"
    domains: tuple[str, ...] = ()
    tenant: str | None = None
    roles: tuple[str, ...] = ROLES

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Policy:
        """Return the policy in an app's document. If the document is unclear, nobody may join without an invitation."""
        join, domains, tenant = data.get("join"), data.get("domains"), data.get("tenant")
        lower = tuple(d.lower() for d in domains if isinstance(d, str) and d) if isinstance(domains, list) else ()
        roles = data.get("roles")
        ranked = tuple(roles) if isinstance(roles, list) else ROLES
        return cls(
            join=join if join in ("open", "domain") else "invite",
            domains=lower,
            tenant=tenant if isinstance(tenant, str) and tenant else None,
            roles=ranked if all(isinstance(role, str) for role in ranked) else ROLES,
        )

    def data(self) -> dict[str, Any]:
        """Return the fields of the app's document that :meth:`of` reads."""
        return {"join": self.join, "domains": list(self.domains), "tenant": self.tenant, "roles": list(self.roles)}

    def better(self, held: str | None, offered: str) -> str:
        """Return the role that a user should have: the one that they have, or the one that they are offered.

        It is the offered role only if that is higher by ``roles``. "admin" is the highest, and "member" is the lowest
        if ``roles`` do not name it. If the two cannot be compared, the user keeps their role.
        """
        if held is None or offered == "admin":
            return offered
        if held == "admin":
            return held
        if held in self.roles and offered in self.roles:
            return max(held, offered, key=self.roles.index)
        return offered if held == "member" and held not in self.roles else held

    def check(self, email: str | None, *, verified: bool, what: str = "app") -> None:
        """Check that a user without an invitation may join.

        Args:
            email: the account's own address.
            verified: whether Firebase Auth has verified the address.
            what: what they join, for messages.

        Raises:
            Forbidden: the policy does not allow the join. The message says how to join instead.
        """
        if self.join == "open":
            return
        if self.join == "invite":
            raise Forbidden(f"This {what} takes members by invitation: send the code you were given as 'invite'.")
        if email is None or not verified:
            raise Forbidden(f"This {what} takes members by their e-mail address: verify yours first.")
        if email.rpartition("@")[2].lower() not in self.domains:
            raise Forbidden(f"This {what} does not take members from your e-mail address's domain.")
