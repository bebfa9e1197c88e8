"""Who may join an app, as its document ``apps/{app}`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import Forbidden

__all__ = ["Join", "Policy"]

Join = Literal["open", "invite", "domain"]


@dataclass(frozen=True, slots=True)
class Policy:
    """``join`` and what it needs. ``tenant`` is the Identity Platform tenant whose users alone the app takes."""

    join: Join = "invite"
    domains: tuple[str, ...] = ()
    tenant: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Policy:
        """The policy that an app's document holds; anything it does not say clearly lets nobody in uninvited."""
        join, domains, tenant = data.get("join"), data.get("domains"), data.get("tenant")
        named = tuple(d.lower() for d in domains if isinstance(d, str) and d) if isinstance(domains, list) else ()
        return cls(
            join=join if join in ("open", "domain") else "invite",
            domains=named,
            tenant=tenant if isinstance(tenant, str) and tenant else None,
        )

    def data(self) -> dict[str, Any]:
        """The fields of the app's document that :meth:`of` reads."""
        return {"join": self.join, "domains": list(self.domains), "tenant": self.tenant}

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
