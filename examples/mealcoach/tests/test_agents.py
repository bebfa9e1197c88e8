"""Agents, which keep and read the diary of the user whose token they send."""

from typing import Any

from firelaunch import App
from firelaunch.testing.apps import User, sign_in


def call(user: User, tool: str, **arguments: Any) -> Any:
    """One call of a tool; its result."""
    params = {"name": tool, "arguments": arguments}
    answer = user.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return answer.get_json()["result"]


def test_an_agent_keeps_the_diary_of_its_own_user(app: App, ada: User) -> None:
    kept = call(ada, "add_meal", name="Soup", kcal=300, kind="lunch", day="2026-03-02")["structuredContent"]
    bob = sign_in(app, "bob")
    assert [meal["id"] for meal in call(ada, "list_meals", kind="lunch")["structuredContent"]["items"]] == [kept["id"]]
    assert call(bob, "list_meals")["structuredContent"]["items"] == []
    for refused in (call(bob, "get_meal", id=kept["id"]), call(ada, "add_meal", name="", kcal=1, day="2026-03-02")):
        assert refused["isError"]


def test_no_tool_reaches_what_agents_are_not_offered(ada: User) -> None:
    answer = ada.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).get_json()
    tools = {tool["name"] for tool in answer["result"]["tools"]}
    assert {"ask", "add_meal", "meals_from_text", "list_days"} <= tools
    assert not [tool for tool in tools if "summaries" in tool or "picture" in tool]
