"""The Cloud Functions of the project: thin entries into firelaunch. One that is scoped is a file, and a line here."""

from functools import cache

import functions_framework
from erase_user import erase_user
from expire_reservations import expire_reservations
from firelaunch.functions.router import route_by_name
from firelaunch.functions.server import use_worker
from firelaunch.functions.wiring import build_membership, build_reconciliation, build_webhook
from flask import Flask, Request, Response
from ingest_upload import ingest_upload
from notify import notify
from on_document_written import on_document_written
from rollup_usage import rollup_usage
from werkzeug.wrappers import Response as BaseResponse

use_worker()


@cache
def door() -> Flask:
    """The membership function's app, made by the first request."""
    return build_membership()


@cache
def webhook() -> Flask:
    """The app that takes Stripe's events, made by the first request."""
    return build_webhook()


@cache
def reconciliation() -> Flask:
    """The app that compares Stripe's subscriptions with ours, made by the first request."""
    return build_reconciliation()


@functions_framework.http
def membership(request: Request) -> Response:
    """Join and leave apps, and roles in them: docs/membership.md."""
    return Response.from_app(door(), request.environ)


@functions_framework.http
def stripe_webhook(request: Request) -> Response:
    """Stripe's events: docs/billing.md."""
    return Response.from_app(webhook(), request.environ)


@functions_framework.http
def reconcile_billing(request: Request) -> Response:
    """Stripe's subscriptions against our copy of them, every night: docs/billing.md."""
    return Response.from_app(reconciliation(), request.environ)


OF_AN_APP = (
    *(erase_user, expire_reservations, ingest_upload, notify, on_document_written),
    *(reconcile_billing, rollup_usage, stripe_webhook),
)
serve = route_by_name({function.__name__: function for function in OF_AN_APP})


@functions_framework.http
def app_functions(request: Request) -> BaseResponse:
    """The functions of one app in one service, as ``firelaunch deploy`` makes it: /rollup_usage/apps/demo."""
    return serve(request)
