"""Seconds that the rules tester takes for rules files of 100, 500 and 1,500 lines, each with a suite of cases."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rules_tester.cases import load_suite
from rules_tester.emulator import RulesEmulator, unsigned_id_token
from rules_tester.runner import RunResult, run

from bench.report import Report, size

LINES = size((100, 500, 1500), (28,))
_SHARED = """
    function signedIn() {
      return request.auth != null && request.auth.token.email_verified == true;
    }
    function owns(document) {
      return request.auth.uid == document.owner;
    }
    function isStaff() {
      return request.auth.token.get('staff', false) == true;
    }
"""
_NOTES = """
    match /NAME/{id} {
      allow get: if resource.data.public == true || owns(resource.data);
      allow list: if resource.data.public == true && request.query.limit <= 20;
      allow create: if signedIn() && owns(request.resource.data)
        && request.resource.data.keys().hasOnly(['owner', 'title', 'public'])
        && request.resource.data.title is string && request.resource.data.title.size() <= 80;
      allow update: if owns(resource.data) && request.resource.data.owner == resource.data.owner
        && request.resource.data.diff(resource.data).affectedKeys().hasOnly(['title', 'public']);
      allow delete: if owns(resource.data) || isStaff();
    }
"""
_TEAMS = """
    match /NAME/{team} {
      function role() {
        return get(/databases/$(database)/documents/NAME/$(team)/members/$(request.auth.uid)).data.role;
      }
      allow get: if exists(/databases/$(database)/documents/NAME/$(team)/members/$(request.auth.uid));
      allow update: if role() == 'admin' && request.resource.data.plan == resource.data.plan;
      match /posts/{post} {
        allow read: if role() in ['admin', 'writer', 'reader'];
        allow create: if role() in ['admin', 'writer'] && request.resource.data.likes == 0
          && request.resource.data.owner == request.auth.uid;
        allow delete: if role() == 'admin' || owns(resource.data);
      }
    }
"""
_ORDERS = """
    match /NAME/{order} {
      function toNext() {
        let before = resource.data.status;
        let after = request.resource.data.status;
        return (before == 'open' && after in ['paid', 'cancelled']) || (before == 'paid' && after == 'sent');
      }
      allow read: if owns(resource.data) || isStaff();
      allow create: if signedIn() && owns(request.resource.data) && request.resource.data.status == 'open'
        && request.resource.data.items.size() > 0 && request.resource.data.items.size() <= 10
        && request.resource.data.total >= 0;
      allow update: if isStaff() && toNext()
        && request.resource.data.diff(resource.data).affectedKeys().hasOnly(['status']);
      allow delete: if false;
    }
"""
_PARTS = (_NOTES, _TEAMS, _ORDERS)
_USERS: dict[str, Any] = {
    "ann": {"email_verified": True},
    "bob": {"email_verified": True},
    "new": {"email_verified": False},
    "staff": {"staff": True},
    "nobody": None,
}


def rules(lines: int) -> tuple[str, list[tuple[str, int]]]:
    """Rules of at least so many lines, and their collections, each with the number of its part."""
    text = f"rules_version = '2';\nservice cloud.firestore {{\n  match /databases/{{database}}/documents {{{_SHARED}"
    collections: list[tuple[str, int]] = []
    while text.count("\n") + 2 < lines:
        number = len(collections) % len(_PARTS)
        name = f"{('notes', 'teams', 'orders')[number]}{len(collections)}"
        collections.append((name, number))
        text += _PARTS[number].replace("NAME", name)
    return f"{text}  }}\n}}\n", collections


def suite(collections: list[tuple[str, int]]) -> dict[str, Any]:
    """Cases as somebody writes them who has tried each rule once or twice."""
    documents: dict[str, Any] = {}
    cases: list[dict[str, Any]] = []
    for name, number in collections:
        found, tried = (_notes, _teams, _orders)[number](name)
        documents |= found
        cases += tried
    return {"users": _USERS, "documents": documents, "cases": cases}


def _notes(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    hers, good = f"{name}/hers", {"owner": "ann", "title": "one", "public": False}
    return {hers: good, f"{name}/open": {**good, "public": True}}, [
        {"as": "ann", "get": hers, "expect": "allow"},
        {"as": ["bob", "nobody"], "get": hers, "expect": "deny"},
        {"as": "bob", "get": f"{name}/open", "expect": "allow"},
        {"as": "bob", "list": name, "where": [["public", "==", True]], "limit": 20, "expect": "allow"},
        {"as": "bob", "list": name, "where": [["public", "==", True]], "limit": 21, "expect": "deny"},
        {"as": "ann", "create": f"{name}/n", "data": {**good, "title": "x" * 80}, "expect": "allow"},
        {"as": ["bob", "new"], "create": f"{name}/n", "data": good, "expect": "deny"},
        {"as": "ann", "create": f"{name}/n", "data": {**good, "title": "x" * 81}, "expect": "deny"},
        {"as": "ann", "create": f"{name}/n", "data": {**good, "more": 1}, "expect": "deny"},
        {"as": "ann", "update": hers, "data": {"title": "two"}, "expect": "allow"},
        {"as": "bob", "update": hers, "data": {"title": "two"}, "expect": "deny"},
        {"as": ["ann", "staff"], "delete": hers, "expect": "allow"},
        {"as": "bob", "delete": hers, "expect": "deny"},
    ]


def _teams(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    team, post = f"{name}/t", f"{name}/t/posts/p"
    documents = {
        team: {"plan": "free", "name": "one"},
        post: {"owner": "bob", "likes": 1},
        f"{team}/members/ann": {"role": "admin"},
        f"{team}/members/bob": {"role": "writer"},
    }
    return documents, [
        {"as": "ann", "get": team, "expect": "allow"},
        {"as": ["new", "nobody"], "get": team, "expect": "deny"},
        {"as": "ann", "update": team, "data": {"name": "two"}, "expect": "allow"},
        {"as": "ann", "update": team, "data": {"plan": "pro"}, "expect": "deny"},
        {"as": "bob", "update": team, "data": {"name": "two"}, "expect": "deny"},
        {"as": ["ann", "bob"], "get": post, "expect": "allow"},
        {"as": "new", "get": post, "expect": "deny"},
        {"as": "bob", "create": f"{team}/posts/q", "data": {"owner": "bob", "likes": 0}, "expect": "allow"},
        {"as": "bob", "create": f"{team}/posts/q", "data": {"owner": "bob", "likes": 9}, "expect": "deny"},
        {"as": "new", "create": f"{team}/posts/q", "data": {"owner": "new", "likes": 0}, "expect": "deny"},
        {"as": ["ann", "bob"], "delete": post, "expect": "allow"},
    ]


def _orders(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    hers, good = f"{name}/hers", {"owner": "ann", "status": "open", "items": ["a"], "total": 3}
    return {hers: good, f"{name}/paid": {**good, "status": "paid"}}, [
        {"as": ["ann", "staff"], "get": hers, "expect": "allow"},
        {"as": ["bob", "nobody"], "get": hers, "expect": "deny"},
        {"as": "ann", "create": f"{name}/n", "data": good, "expect": "allow"},
        {"as": "ann", "create": f"{name}/n", "data": {**good, "items": []}, "expect": "deny"},
        {"as": "ann", "create": f"{name}/n", "data": {**good, "status": "paid"}, "expect": "deny"},
        {"as": "bob", "create": f"{name}/n", "data": good, "expect": "deny"},
        {"as": "staff", "update": hers, "data": {"status": "paid"}, "expect": "allow"},
        {"as": "staff", "update": f"{name}/paid", "data": {"status": "sent"}, "expect": "allow"},
        {"as": "staff", "update": hers, "data": {"status": "sent"}, "expect": "deny"},
        {"as": "ann", "update": hers, "data": {"status": "paid"}, "expect": "deny"},
        {"as": "ann", "delete": hers, "expect": "deny"},
    ]


def measure(emulator: RulesEmulator, lines: int) -> tuple[RunResult, float]:
    """Run the suite of a file of so many lines, and return the seconds that it took."""
    text, collections = rules(lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.yaml"
        path.write_text(yaml.safe_dump(suite(collections), sort_keys=False))
        cases = load_suite(path)
    began = time.monotonic()
    return run(emulator, text, cases, unsigned_id_token), time.monotonic() - began


def main() -> None:
    """Print and keep the figures."""
    report = Report("rules")
    with RulesEmulator.start() as emulator:
        for lines in LINES:
            before = emulator.processor_seconds()
            result, seconds = measure(emulator, lines)
            killed, survived = len(result.of("killed")), len(result.of("survived"))
            case = f"{lines} lines"
            report.row(case, "time", seconds, "s")
            report.row(case, "processor time of the emulator", emulator.processor_seconds() - before, "s")
            report.row(case, "mutants", killed + survived, "")
            report.row(case, "cases", result.cases, "")
            report.row(case, "requests to judge mutants", sum(outcome.tried for outcome in result.outcomes), "")
            report.row(case, "score", 100 * killed / (killed + survived), "%")
    report.write()
