"""Verifying who calls. The Firebase verifiers are imported from their own module when they are the ones in use."""

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
