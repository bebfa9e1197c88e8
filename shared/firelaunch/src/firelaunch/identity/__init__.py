"""Verify who calls. The Firebase verifiers are in modules of their own, which are imported only if they are in use."""

from .base import AnyOf, AppCheckFailed, Attestation, Caller, Identity, IdentityUnavailable, bearer
from .dev import DevIdentity, load_or_create_key

__all__ = [
    "AnyOf",
    "AppCheckFailed",
    "Attestation",
    "Caller",
    "DevIdentity",
    "Identity",
    "IdentityUnavailable",
    "bearer",
    "load_or_create_key",
]
