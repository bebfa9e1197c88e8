"""Other people's model servers: each quirk is borne, by the client itself and in a served app's stream loop."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from firelaunch.testing.models import Action, ModelServer, Raw
from providers.docs import PAGE, page
from providers.play import played
from providers.quirks import QUIRKS, Quirk
from support import Server

STREAMS = [
    quirk
    for quirk in QUIRKS
    if quirk.outcome.code is None and not quirk.outcome.cities and quirk.silence == 20 and len(quirk.actions) == 1
    if isinstance(quirk.actions[0], Raw) and len(quirk.actions[0].pieces) < 100
]


def test_every_quirk_is_borne() -> None:
    with ThreadPoolExecutor(8) as threads:
        rows = [row for part in threads.map(played, [[quirk] for quirk in QUIRKS]) for row in part]
    assert [row for row in rows if not row["passed"]] == []
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS)


def test_the_page_has_every_quirk() -> None:
    assert PAGE.read_text() == page(), "write it anew: make docs"


class Scripted(ModelServer):
    """A server that plays the quirk that the user names, in pieces of its own and slowly, as streams come."""

    def _next(self, request: dict[str, Any], authorization: str) -> Action:
        super()._next(request, authorization)
        named = re.search(r"<(\d+)>", request["messages"][-1]["content"])
        assert named, request
        action = STREAMS[int(named[1])].actions[0]
        assert isinstance(action, Raw)
        sent = b"".join(action.pieces)
        size = len(sent) // 8 + 1
        return Raw([sent[at : at + size] for at in range(0, len(sent), size)], 0.12, action.hang)


def test_the_stream_loop_of_a_served_app_bears_them_too(app_folder: Path, serve: Callable[..., Server]) -> None:
    with Scripted() as model:
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)

        def say(number: int, quirk: Quirk) -> tuple[str, str, str]:
            user = server.sign_in(f"user-{number}")
            seen = user.send(user.new_chat(), f"<{number}>", Accept="text/event-stream").text
            shown = "".join(json.loads(data)["text"] for data in re.findall("event: delta\ndata: (.*)\n", seen))
            done = re.search("event: done\ndata: (.*)\n", seen)
            return quirk.name, shown, json.loads(done[1])["message"]["text"] if done else seen

        assert len(STREAMS) > 50
        with ThreadPoolExecutor(16) as threads:
            said = list(threads.map(say, range(len(STREAMS)), STREAMS))
        assert said == [(quirk.name, quirk.outcome.text, quirk.outcome.text) for quirk in STREAMS]
