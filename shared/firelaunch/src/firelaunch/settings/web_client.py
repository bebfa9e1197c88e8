"""What an app's web client is told when it starts, and the headers that it is served with, wherever it is served.

The client is built without any address: ``/config.json`` has them (docs/web.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .app import Settings

__all__ = ["ASSETS_CACHING", "PAGE_CACHING", "client_config", "client_headers"]

PAGE_CACHING: Final = "no-cache"
"""Of ``index.html`` and ``config.json``: kept, and asked for anew each time."""

ASSETS_CACHING: Final = "public, max-age=31536000, immutable"
"""Of files whose names change with their contents, in seconds of a year."""

_FIREBASE = ("https://identitytoolkit.googleapis.com", "https://securetoken.googleapis.com")
_APP_CHECK = "https://content-firebaseappcheck.googleapis.com"


def client_config(
    settings: Settings, *, mode: str, api: str = "", membership: str = "", firebase: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what ``/config.json`` says. Nothing in it is secret.

    Args:
        api: the service's address; empty where it serves the client, too.
        membership: the address of the membership function; empty where there is none.
        firebase: the config that Firebase's SDK is initialised with; None where dev users alone sign in.
    """
    tenant = settings.identity.tenant
    emulator = settings.environment.auth_emulator
    return {
        "app": {"id": settings.app.id, "name": settings.app.name, "description": settings.app.description},
        "suggestions": list(settings.app.suggestions),
        "mode": mode,
        "api": api,
        "firebase": {**firebase, **({"tenantId": tenant} if tenant else {})} if firebase else None,
        "auth_emulator": f"http://{emulator}" if firebase and emulator and mode != "cloud" else None,
        "membership": membership or None,
        "sign_in": list(settings.identity.sign_in),
        "plans": [
            {
                "name": name,
                "requests_per_minute": plan.requests_per_minute,
                "daily_micro_usd": plan.daily_usd,
                "features": list(plan.features),
                "for_sale": bool(plan.stripe_price or plan.stripe_usage_price),
            }
            for name, plan in sorted(settings.plans.items(), key=lambda item: item[1].daily_usd)
        ],
        "top_ups": list(settings.billing.top_ups),
        "groups": settings.has_groups,
        "group_chats": settings.has_groups and settings.groups.chats_paid_by is not None,
    }


def client_headers(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of every file of a client that reads ``config``.

    The page may run its own scripts and load its own styles, and nothing that stands in the page itself. Images of
    other hosts are let in, because users may ask for them; the client loads none without a click.
    """
    firebase = config["firebase"] or {}
    domain = str(firebase.get("authDomain") or "")
    calls = [config["api"], config["membership"], config["auth_emulator"]]
    calls += [*_FIREBASE, _APP_CHECK] if firebase and not config["auth_emulator"] else []
    frames = [f"https://{domain}" if domain and not config["auth_emulator"] else config["auth_emulator"]]
    policy = (
        "default-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        _allowed("script-src", "'self'", ["https://apis.google.com"] if firebase else []),
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "img-src 'self' blob: data: https:",
        "media-src 'self' blob:",
        _allowed("connect-src", "'self'", calls),
        _allowed("frame-src", "", frames) if any(frames) else "frame-src 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "Cross-Origin-Opener-Policy": "same-origin-allow-popups",  # Google's sign-in is a window that answers
    }


def _allowed(directive: str, first: str, origins: Iterable[str | None]) -> str:
    return " ".join(dict.fromkeys(filter(None, (directive, first, *origins))))
