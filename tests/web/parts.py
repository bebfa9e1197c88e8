"""The parts that the web client is tried with: an app with tools and plans for sale, and its model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firelaunch.testing.models import Action, Fault, ModelServer, Reply
from firelaunch.testing.stripe import StripeServer
from support import Server, copy_template, served

__all__ = ["APP", "PlayedModel", "served_app"]

APP = {"id": "my-app", "name": "My app", "description": "Answers questions."}

_MARKDOWN = """## Rivers

The **Volga** is the longest river of Europe, followed by the *Danube*.

| River | Length |
| --- | --- |
| Volga | 3,530 km |
| Danube | 2,850 km |

```python
def longest(rivers):
    return max(rivers, key=lambda river: river.length)
```

1. Measure
2. Compare

> Lengths depend on who measured.
"""

_HOSTILE = """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">

[run](javascript:window.hacked=3) [data](data:text/html,<script>window.hacked=4</script>) [own](/v1/me)

![spy](http://spy.test/pixel.png?secret=1)

[bank](https://bank.test/login)

```html
<script>window.hacked = 5</script>
```
"""

_TOOL_WORKFLOW = '''"""What happens in one turn: a tool that is free to call, and one that asks first."""

from collections.abc import Iterator

from firelaunch import Chunk, Message, Tool, Turn


def answer(turn: Turn) -> Iterator[Chunk]:
    """Answer with two tools at hand."""

    def look_up(city: str) -> str:
        """Look the weather of a city up.

        Args:
            city: its name.
        """
        return f"It is sunny in {city}."

    def send_mail(to: str) -> str:
        """Send a mail.

        Args:
            to: whom to send it to.
        """
        return f"sent to {to}"

    messages: list[Message] = [
        {"role": "system", "content": turn.prompt("chat", app_name=turn.app.name)},
        *turn.history,
        {"role": "user", "content": turn.passages + turn.text},
    ]
    yield from turn.llm.stream(messages, tools=[look_up, Tool(send_mail, approve=True)])
'''


_SMALL_PLANS = """[plans.slow]
requests_per_minute = 2
daily_usd = "0.50"

[plans.tiny]
requests_per_minute = 200
daily_usd = "0.02"

[plans.payg]
requests_per_minute = 60
daily_usd = "20.00"
balance = true

"""


_CREDIT = """
[billing.top_ups.ten]
stripe_price = "price_ten"
credit_usd = "10.00"
"""


_GROUPS = """
[groups]
chats_paid_by = "writer"
chats_on_erase = "anonymize"
"""


def _pieces(text: str) -> list[str]:
    return [text[at : at + 6] for at in range(0, len(text), 6)]


def _slow(words: int) -> Reply:
    return Reply(words=[f"word{number} " for number in range(words)], pace=0.08)


class PlayedModel(ModelServer):
    """A model that answers as the user's last message says, such as "slow" or "markdown"."""

    def _next(self, request: dict[str, Any], authorization: str) -> Action:
        super()._next(request, authorization)
        messages = request["messages"]
        if messages[-1]["role"] == "tool":
            return Reply(words=["It ", "is ", "done."])
        content = next(each["content"] for each in reversed(messages) if each["role"] == "user")
        text = content if isinstance(content, str) else " ".join(part.get("text", "file") for part in content)
        return _play(text.rpartition("\n")[2].strip())


def _play(text: str) -> Action:
    plays: dict[str, Action] = {
        "slow": _slow(120),
        "short": _slow(25),
        "markdown": Reply(words=_pieces(_MARKDOWN), usage=(420, 0, 180)),
        "hostile": Reply(words=_pieces(_HOSTILE)),
        "think": Reply(words=["Forty-two."], thoughts="First I consider the question. Then I count."),
        "weather": Reply(words=["One moment. "], calls=[("look_up", json.dumps({"city": "Lisbon"}))]),
        "mail": Reply(words=["I will. "], calls=[("send_mail", json.dumps({"to": "bob@example.com"}))]),
        "cut": Reply(words=["This is only ", "the beginning"], finish="length"),
        "empty": Reply(words=[], usage=(10, 0, 0)),
        "filtered": Reply(words=["I was about to "], finish="content_filter"),
        "refused": Fault(400),
        "down": Fault(503),
        "cite": Reply(words=_pieces("The warranty lasts two years [1]. Nothing else does [7].")),
        "dear": Reply(words=["Dear."], usage=(10, 0, 300_000)),  # more than a tiny plan's day, of the cheap model too
    }
    if text.startswith("Your answer was cut off"):
        return Reply(words=[" and ", "the end."])
    return plays.get(text.split(" ")[0].lower(), Reply(words=["You ", "said: ", *_pieces(text)]))


@contextmanager
def served_app(folder: Path, model: PlayedModel, stripe: StripeServer, page: str) -> Iterator[Server]:
    """Serve an app with tools, small budgets, and plans and credit for sale, whose web client is at ``page``."""
    app = copy_template(folder)
    (app / "app" / "workflow.py").write_text(_TOOL_WORKFLOW)
    toml = app / "firelaunch.toml"
    text = toml.read_text()
    for old, new in (
        ("requests_per_minute = 20\n", "requests_per_minute = 200\ngroups = 5\n"),
        ('# stripe_price = "price_..."', 'stripe_price = "price_pro"'),
        ("[plans.pro]\n", f"{_SMALL_PLANS}[plans.pro]\n"),
    ):
        assert old in text, old
        text = text.replace(old, new, 1)
    toml.write_text(text + _CREDIT + _GROUPS)
    environ = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": model.base_url,
        "STRIPE_API_KEY": stripe.key,
        "STRIPE_API_BASE": stripe.url,
        "STRIPE_WEBHOOK_SECRET": stripe.secret,
        "FIRELAUNCH_RETURN_URL": f"{page}/#/plans",
    }
    stripe.account.prices.add("price_pro")
    stripe.account.one_time["price_ten"] = 1_000
    with served(app, **environ) as server:
        yield server
