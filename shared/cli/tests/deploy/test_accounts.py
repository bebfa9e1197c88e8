"""The users that an app takes along."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from fakes.google import GoogleCloud
from firelaunch_cli.deploy.accounts import members
from firelaunch_cli.deploy.gcloud import Tools

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


def test_members_are_given_as_the_firebase_cli_imports_them_with_their_role_in_this_app_alone(tmp_path: Path) -> None:
    with GoogleCloud("demo-project") as google:
        google.account.apis.add("identitytoolkit.googleapis.com")
        google.users.claims = {
            "ada": {"apps": {"demo": "admin", "other": "member"}, "internal": "secret"},
            "bob": {"apps": {"other": "member"}},
            "eve": {},
            "zoe": {"apps": {"demo": "member"}},
        }
        provider = {"providerId": "google.com", "rawId": "7", "email": "ada@example.com", "federatedId": "x"}
        google.users.fields = {
            "ada": {
                "email": "ada@example.com",
                "emailVerified": True,
                "passwordHash": "a_b-c",
                "salt": "d-_",
                "lastLoginAt": "17",
                "providerUserInfo": [provider, {"providerId": "password"}, {"providerId": "oidc.own"}],
                "validSince": "1",
            },
            "zoe": {"customAttributes": '{"apps":{"demo":"member"}}', "disabled": True},
            "eve": {"customAttributes": "not JSON"},
        }
        tools = Tools({"PATH": os.environ["PATH"], **google.environ(tmp_path)}, print)
        ada, zoe = members(tools, "demo-project", "", "demo")
    assert ada == {
        "localId": "ada",
        "email": "ada@example.com",
        "emailVerified": True,
        "passwordHash": "a/b+c",
        "salt": "d+/",
        "lastSignedInAt": "17",
        "providerUserInfo": [{"providerId": "google.com", "rawId": "7", "email": "ada@example.com"}],
        "customAttributes": json.dumps({"apps": {"demo": "admin"}}, separators=(",", ":")),
    }
    assert zoe == {"localId": "zoe", "disabled": True, "customAttributes": '{"apps":{"demo":"member"}}'}
