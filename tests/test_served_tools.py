"""Tools in a served app: between two streams that the hub waits for, and with clients that leave."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

from firelaunch.testing.models import ModelServer, Reply
from support import Server
from test_relay import asked, change_workflow, last_message, read_until, start, told, wait_until

USES_TOOLS = """
def answer(turn):
    import threading, time

    def nap(seconds: float) -> str:
        \"\"\"Sleep.\"\"\"
        time.sleep(seconds)
        return threading.current_thread().name

    yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=[nap])
"""


def naps(seconds: float) -> Reply:
    return Reply(("One ", "moment."), calls=[("nap", json.dumps({"seconds": seconds}))], pace=0.03)


def test_a_tool_runs_on_a_thread_of_its_own_and_holds_up_no_other_stream(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    change_workflow(app_folder, USES_TOOLS)
    with ModelServer(Reply(words=["word "] * 30, pace=0.03)) as model:
        server, ada, chat = start(serve, app_folder, model)
        bob = server.sign_in("bob")
        model.script = [naps(3.0)]
        with asked(server, ada, chat) as slow:
            wait_until(lambda: len(model.requests) == 1)  # so that the script is hers
            with asked(server, bob, bob.new_chat()) as quick:
                seen = read_until(slow, b"event: tool_call")
                assert told(read_until(quick, b"event: done")) == "word " * 30
                assert b"tool_result" not in seen
                seen += read_until(slow, b"event: done")
        assert told(seen) == "One moment.\n\n" + "word " * 30
        (result,) = re.findall(rb"event: tool_result\ndata: (.*)\n", seen)
        assert json.loads(result) == {"id": "call_0", "name": "nap", "output": "tool", "error": None}
        spent = ada.call("GET", "/v1/usage").json()
        assert (spent["requests"], spent["reserved_micro_usd"]) == (1, 0)
        assert last_message(ada, chat)["status"] == "complete"


def test_a_client_that_leaves_while_a_tool_runs_ends_the_answer_and_pays_for_the_first_step(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    change_workflow(app_folder, USES_TOOLS)
    settings = app_folder / "firelaunch.toml"
    settings.write_text(settings.read_text().replace("[limits]", '[limits]\non_disconnect = "stop"'))
    with ModelServer() as model:
        server, ada, chat = start(serve, app_folder, model)
        model.script = [naps(9.0)]
        with asked(server, ada, chat) as sock:
            read_until(sock, b"event: tool_call")
        left = threading.Event()
        timer = threading.Timer(6.0, left.set)
        timer.start()
        wait_until(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
        assert not left.is_set(), "it waited for the tool"
        timer.cancel()
        assert (
            ada.call("GET", "/v1/usage").json()["cost_micro_usd"] == 10 * 2 + 2 * 5
        )  # gpt-6.1-terra: $2 and $5 per million
        assert len(model.requests) == 1
        kept = last_message(ada, chat)
        assert (kept["status"], kept["text"]) == ("incomplete", "One moment.")
