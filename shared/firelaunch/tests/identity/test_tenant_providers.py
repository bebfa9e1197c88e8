"""Tokens of users who sign in by SAML or OpenID Connect in an Identity Platform tenant.

What they say of roles counts for nothing, and a tenant's token holds for that tenant's apps alone.

The shape of the claims is Google's: https://cloud.google.com/identity-platform/docs/web/saml and .../web/oidc. What the
provider said is in ``firebase.sign_in_attributes``; the provider's own id of the user is in ``firebase.identities``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.errors import Forbidden, Unauthenticated
from firelaunch.identity import Caller
from firelaunch.identity.base import AnonymousAccount
from firelaunch.identity.firebase import EmulatorIdentity, FirebaseIdentity
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import unsigned_token
from hypothesis import given, settings
from hypothesis import strategies as st

PROJECT = "demo-project"
TENANT = "acme-x1y2z"


@pytest.fixture(scope="module")
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


def identity(server: CertificateServer, tenant: str | None = TENANT) -> FirebaseIdentity:
    return FirebaseIdentity(PROJECT, "demo", tenant=tenant, certificates_url=server.url)


def token(
    server: CertificateServer,
    provider: str = "saml.acme",
    tenant: str | None = TENANT,
    apps: Any = None,
    attributes: Any = None,
    identities: Any = None,
    **claims: Any,
) -> str:
    """As Identity Platform issues one after a sign-in by this provider."""
    firebase = {
        "identities": {provider: ["G-1001"]} if identities is None else identities,
        "sign_in_provider": provider,
        "sign_in_attributes": attributes,
        "tenant": tenant,
    }
    firebase = {name: value for name, value in firebase.items() if value is not None}
    return server.token(PROJECT, "Zk3uLq", apps, firebase=firebase, **claims)


SHAPES: dict[str, dict[str, Any]] = {
    "SAML, the name is an address": {
        "provider": "saml.acme",
        "identities": {"saml.acme": ["ada@acme.example"], "email": ["ada@acme.example"]},
        "email": "ada@acme.example",
        "email_verified": False,
        "attributes": {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname": "Lovelace"},
    },
    "SAML, the name is a number and there is no address": {
        "provider": "saml.acme",
        "identities": {"saml.acme": ["1001"]},
    },
    "SAML, attributes of many values": {"provider": "saml.acme", "attributes": {"groups": ["staff", "demo:admin"]}},
    "OpenID Connect with an address": {
        "provider": "oidc.acme",
        "identities": {"oidc.acme": ["00u1ab"], "email": ["ada@acme.example"]},
        "email": "ada@acme.example",
        "email_verified": True,
        "name": "Ada Lovelace",
        "attributes": {"groups": ["staff"], "preferred_username": "ada"},
    },
    "OpenID Connect without one": {"provider": "oidc.acme", "identities": {"oidc.acme": ["00u1ab"]}, "attributes": {}},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_member_is_known_by_each_shape_of_token_and_with_an_address_only_where_there_is_one(
    google: CertificateServer, shape: dict[str, Any]
) -> None:
    held = token(google, apps={"demo": "editor", "other": "admin"}, **shape)
    address, verified = shape.get("email"), shape.get("email_verified", False)
    assert identity(google).verify(held) == Caller("demo", "Zk3uLq", "editor", address, email_verified=verified)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize(
    ("bound", "signed_in"),
    [(TENANT, "evil-a9b8c"), (TENANT, None), (TENANT, TENANT.upper()), (TENANT, f"{TENANT} "), (None, TENANT)],
)
def test_the_token_of_another_tenant_or_of_none_does_not_hold_whatever_its_role(
    google: CertificateServer, shape: dict[str, Any], bound: str | None, signed_in: str | None
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identity(google, bound).verify(token(google, tenant=signed_in, apps={"demo": "admin"}, **shape))
    assert "tenant" in (caught.value.reason or "").lower()
    assert TENANT not in caught.value.message, "the caller is not told which tenant it is"


ROLES = {"apps": {"demo": "admin"}, "demo": "admin", "role": "admin", "roles": ["admin"], "admin": True}


@pytest.mark.parametrize(
    "shape",
    [
        {"attributes": ROLES},
        {"attributes": {"firebase": {"apps": ROLES["apps"]}}},
        {"identities": {"saml.acme": ["1001"], "apps": ["demo:admin"]}},
        {"provider": "saml.apps", "attributes": ROLES},
        {"role": "admin", "roles": ["admin"], "groups": ["admin"], "admin": True},
        {"attributes": '{"apps": {"demo": "admin"}}'},
        {"sign_in_attributes": ROLES},
    ],
    ids=["attributes", "nested", "identities", "a provider named apps", "at the top", "text", "beside firebase"],
)
def test_what_a_provider_says_of_roles_gives_none(google: CertificateServer, shape: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        identity(google).verify(token(google, **shape))
    member = identity(google).verify(token(google, apps={"demo": "viewer"}, **shape))
    assert member.role == "viewer", "nor does it make a role a greater one"


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8) | st.sampled_from(["admin", "member", TENANT]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["apps", "demo", "tenant"]), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["saml.", "oidc."]),
    name=NAMES,
    bound=st.none() | st.sampled_from([TENANT, "other-1a2b3"]),
    signed_in=st.none() | st.sampled_from([TENANT, "other-1a2b3", ""]),
    attributes=VALUES,
    identities=VALUES,
    apps=st.none() | st.dictionaries(st.sampled_from(["demo", "other"]), st.sampled_from(["viewer", "admin"])),
    email=st.none() | st.just("ada@acme.example"),
    verified=st.booleans(),
)
def test_a_role_comes_of_the_apps_claim_alone_and_the_tenant_of_the_tenant_alone(
    google: CertificateServer,
    kind: str,
    name: str,
    bound: str | None,
    signed_in: str | None,
    attributes: Any,
    identities: Any,
    apps: dict[str, str] | None,
    email: str | None,
    verified: bool,
) -> None:
    held = token(google, kind + name, signed_in, apps, attributes, identities, email=email, email_verified=verified)
    verifier = identity(google, bound)
    if signed_in != bound:
        with pytest.raises(Unauthenticated):
            verifier.verify(held)
    elif not apps or "demo" not in apps:
        with pytest.raises(Forbidden):
            verifier.verify(held)
    else:
        shown = verified and email is not None
        assert verifier.verify(held) == Caller("demo", "Zk3uLq", apps["demo"], email, email_verified=shown)


@pytest.mark.parametrize("firebase", [None, [], "saml.acme", {"tenant": [TENANT]}, {"tenant": {"id": TENANT}}, {}])
def test_a_token_whose_firebase_claim_is_malformed_is_of_no_tenant(google: CertificateServer, firebase: Any) -> None:
    with pytest.raises(Unauthenticated):
        identity(google).verify(google.token(PROJECT, "Zk3uLq", {"demo": "admin"}, firebase=firebase))


def test_guests_of_a_tenant_are_refused_as_guests_of_the_project_are(google: CertificateServer) -> None:
    guest = token(google, "anonymous", apps={"demo": "member"}, identities={}, provider_id="anonymous")
    with pytest.raises(AnonymousAccount):
        identity(google).verify(guest)


def test_the_emulators_tokens_of_a_tenant_do_not_hold() -> None:
    firebase = {"sign_in_provider": "saml.acme", "tenant": TENANT, "identities": {}}
    with pytest.raises(Unauthenticated):
        EmulatorIdentity(PROJECT, "demo").verify(
            unsigned_token(PROJECT, {"sub": "Zk3uLq", "apps": {"demo": "member"}, "firebase": firebase})
        )
