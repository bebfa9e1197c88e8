"""The pages on which people pay and manage what they pay for, in the place of Stripe's own; nothing is charged.

What they do is what Stripe's do to the account: a card that is declined leaves the checkout open, a canceled
subscription goes on until the end of its period, and a failed renewal is ``past_due``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .account import Account
from .forms import FormRefused

__all__ = ["PAGES", "Pages"]

PAGES = re.compile(r"/(c/pay|p/session)/")
"""The paths of Stripe's own pages."""

_DECLINED = "Your card was declined."
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 3rem auto; padding: 0 1rem; color: #1f2430 }
h1 { font-size: 1.4rem } .note { background: #fff4d6; padding: .6rem .9rem; border-radius: .5rem }
.bad { background: #fde3e3; padding: .6rem .9rem; border-radius: .5rem } form { display: grid; gap: .6rem }
button { font: inherit; padding: .6rem; border-radius: .5rem; border: 1px solid #8a90a0 }
button { background: #fff; color: #1f2430 } button.main { background: #4338ca; color: #fff } a { color: #4338ca }
"""

Page = tuple[int, bytes, Mapping[str, str]]


class Pages:
    """The pages of an account.

    Attributes:
        portals: the customer of each portal session, and the address that it leads back to.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self.portals: dict[str, tuple[str, str]] = {}

    def answer(self, method: str, path: str, body: str) -> Page:
        """Return the status, the body and the headers of the answer to a browser."""
        kind, _, key = path.lstrip("/").rpartition("/")
        chosen = dict(parse_qsl(body)) if method == "POST" else {}
        with self._account.lock:
            if kind == "c/pay" and key in self._account.sessions:
                return self._checkout(self._account.sessions[key], chosen)
            if kind == "p/session" and key in self.portals:
                return self._portal(*self.portals[key], chosen)
        return _page("Not found", ["<p>There is no such page. It may be of an earlier start.</p>"], status=404)

    def _checkout(self, session: dict[str, Any], chosen: Mapping[str, str]) -> Page:
        pay, problem = chosen.get("pay"), ""
        if pay == "declined":
            problem = _DECLINED
        elif pay is not None:
            try:
                self._account.pay(session["id"], later=pay == "later", card=pay != "none")
            except FormRefused as refused:
                problem = str(refused)
            else:
                return _redirect(session["success_url"])
        buttons = [
            _button("pay", "card", "Pay", main=True),
            _button("pay", "declined", "Pay with a card that is declined"),
        ]
        if session["mode"] == "payment":
            buttons.append(_button("pay", "later", "Pay by bank debit, which takes days"))
        elif session.get("payment_method_collection") == "if_required":
            buttons.append(_button("pay", "none", "Begin without a card"))
        parts = [
            f"<p>{escape(', '.join(session['_prices']))}</p>",
            _problem(problem),
            _form(buttons),
            _link(session.get("cancel_url"), "Back, without paying"),
        ]
        return _page("Checkout", parts)

    def _portal(self, customer: str, return_url: str, chosen: Mapping[str, str]) -> Page:
        account = self._account
        own = {key: each for key, each in account.subscriptions.items() if each["customer"] == customer}
        key, problem = chosen.get("subscription", ""), ""
        if key in own:
            try:
                self._act(key, chosen.get("do", ""))
            except FormRefused as refused:
                problem = str(refused)
        shown = [part for key, each in own.items() if each["status"] != "canceled" for part in self._shown(key, each)]
        nothing = ["<p>There is no subscription.</p>"] if not shown else []
        return _page("Billing", [_problem(problem), *shown, *nothing, _link(return_url, "Back")])

    def _act(self, key: str, act: str) -> None:
        account = self._account
        if act == "cancel":
            account.cancel_in_portal(key)
        elif act == "keep":
            account.keep_in_portal(key)
        elif act == "fail":
            account.change(key, status="past_due")
        elif act == "pay":
            account.change(key, status="active")
        elif act == "end":
            account.change(key, status="canceled")

    def _shown(self, key: str, subscription: Mapping[str, Any]) -> Iterable[str]:
        prices = ", ".join(item["price"]["id"] for item in subscription["items"]["data"])
        yield f"<h2>{escape(prices)}: {escape(subscription['status'].replace('_', ' '))}</h2>"
        canceled = subscription["cancel_at"] is not None or subscription["cancel_at_period_end"]
        buttons = (
            [_button("do", "keep", "Don't cancel")] if canceled else [_button("do", "cancel", "Cancel at the end")]
        )
        if subscription["status"] == "past_due":
            buttons.append(_button("do", "pay", "Pay what is owed"))
        else:
            buttons.append(_button("do", "fail", "Let the next payment fail"))
        buttons.append(_button("do", "end", "End it at once"))
        yield _form(buttons, f'<input type="hidden" name="subscription" value="{escape(key)}">')


def _page(title: str, parts: Iterable[str], status: int = 200) -> Page:
    text = "\n".join(filter(None, parts))
    html = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style><body><main><h1>{title}</h1>
<p class="note">This page stands in for Stripe's while you develop. Nothing is charged.</p>
{text}</main></body></html>"""
    return status, html.encode(), _HEADERS


def _redirect(url: str) -> Page:
    return 303, b"", {"Location": url, "Cache-Control": "no-store"}


def _form(buttons: Iterable[str], more: str = "") -> str:
    return f'<form method="post">{more}{"".join(buttons)}</form>'


def _button(name: str, value: str, label: str, *, main: bool = False) -> str:
    return f'<button name="{name}" value="{value}"{" class=main" if main else ""}>{escape(label)}</button>'


def _problem(text: str) -> str:
    return f'<p role="alert" class="bad">{escape(text)}</p>' if text else ""


def _link(url: str | None, label: str) -> str:
    safe = url and urlsplit(url).scheme in {"http", "https"}
    return f'<p><a href="{escape(url)}">{escape(label)}</a></p>' if url and safe else ""
