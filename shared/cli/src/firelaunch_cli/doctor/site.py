"""Check the web client where it is deployed: it is there, its headers protect it, and the API that it calls answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from firelaunch.settings.web_client import client_headers

from .base import Finding, ok, problem

__all__ = ["site_checks"]

_SECONDS = 20.0
_TRANSPORT = "Strict-Transport-Security"


def site_checks(url: str, app: str) -> Iterator[Finding]:
    """Look at a deployed web client. Whether users may sign in on its domain is a step of the deploy.

    Args:
        url: where it is, such as ``https://acme-chat.web.app``.
        app: the app's id.
    """
    deploy = f"firelaunch deploy {app}"
    try:
        headers, config = _config(url)
    except _Unread as error:
        yield problem("web client", f"{url}: {error}", deploy)
        return
    served = config["app"].get("id")
    if served != app:
        yield problem("web client", f"{url} serves the client of {served}", "name another site in cloud.site")
        return
    yield ok("web client", url)
    yield _protected(headers, config, deploy)
    yield _calls(str(config["api"]), app, deploy)


class _Unread(Exception):
    """The answer is not that of a deployed web client."""


def _config(url: str) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    page = _get(url)
    answer = _get(f"{url}/config.json")
    try:
        config = answer.json()
        config["app"]["id"], config["api"], config["firebase"], config["membership"], config["auth_emulator"]
    except (ValueError, KeyError, TypeError):
        raise _Unread("there is no web client, or one that an older firelaunch deployed") from None
    return page.headers, config


def _get(url: str) -> Any:
    import requests

    try:
        answer = requests.get(url, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise _Unread(f"it cannot be reached ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise _Unread(f"it answers with {answer.status_code}")
    return answer


def _protected(headers: Mapping[str, str], config: Mapping[str, Any], deploy: str) -> Finding:
    name = "web client's headers"
    unlike = [key for key, value in client_headers(config).items() if headers.get(key) != value]
    if not headers.get(_TRANSPORT):
        unlike.append(_TRANSPORT)
    if unlike:
        return problem(name, f"not as a deploy would set them: {', '.join(unlike)}", deploy)
    return ok(name, "its policy lets it run its own scripts alone, and call what its config names")


def _calls(api: str, app: str, deploy: str) -> Finding:
    name = "web client's API"
    try:
        answers = _get(f"{api}/ready").json()
    except _Unread as error:
        return problem(name, f"{api}: {error}", deploy)
    except ValueError:
        answers = None
    if not isinstance(answers, dict) or answers.get("app") != app:
        return problem(name, f"{api} is not the service of {app}", deploy)
    return ok(name, api)
