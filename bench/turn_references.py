"""The usual ways to answer a message in one piece, for ``bench/turn_served.py``."""

# Annotations are evaluated, as FastAPI looks up what a route takes among a module's names, and these are a function's.

import json
import os
import secrets
import sqlite3
import threading
import time
from typing import Any

HISTORY = 12
"""The messages of a chat that the model gets, as in the template's settings."""

FIRST, SECOND, THIRD = (209, 222, 154, 452), (616, 147), (250, 579, 632, 294, 291, 798)
"""Bytes of the rows that a turn of ours writes: when the message is admitted, the answer's own, and what it cost."""


class Rows:
    """As much history and as many rows of the same size as a turn of ours, in SQLite, with nothing checked."""

    def __init__(self) -> None:
        self._store = sqlite3.connect(os.environ["DATA"], isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = NORMAL")
        self._store.execute("CREATE TABLE messages (id TEXT PRIMARY KEY, chat TEXT, at REAL, role TEXT, data TEXT)")
        self._store.execute("CREATE INDEX of_chat ON messages (chat, at)")
        self._store.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, data TEXT)")

    def commit(self, sizes: tuple[int, ...], *messages: tuple[str, str, str]) -> None:
        """Write messages (chat, role, text), and rows of ``sizes`` bytes."""
        with self._lock:
            self._store.execute("BEGIN IMMEDIATE")
            for chat, role, text in messages:
                values = (secrets.token_hex(16), chat, time.time(), role, json.dumps({"text": text}))
                self._store.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", values)
            rows = [(secrets.token_hex(16), json.dumps({"text": "x" * size})) for size in sizes]
            self._store.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", rows)
            self._store.execute("COMMIT")

    def history(self, chat: str) -> Any:
        """The chat's latest messages, as the model takes them."""
        query = "SELECT role, data FROM messages WHERE chat = ? ORDER BY at DESC LIMIT ?"
        with self._lock:
            found = self._store.execute(query, (chat, HISTORY)).fetchall()
        return [{"role": role, "content": json.loads(data)["text"]} for role, data in reversed(found)]


def fastapi_app() -> Any:
    """FastAPI with AsyncOpenAI, and SQLite in the loop's thread: shorter calls than a hand-over would take."""
    from fastapi import FastAPI
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    class Message(BaseModel):
        text: str

    app, client, rows = FastAPI(), AsyncOpenAI(), Rows()

    @app.post("/v1/chats/{chat}/messages")
    async def send(chat: str, message: Message) -> dict[str, Any]:
        rows.commit(FIRST[1:], (chat, "user", message.text))
        history = rows.history(chat)
        answer = await client.chat.completions.create(model="bench", messages=history, max_tokens=1024)
        text = answer.choices[0].message.content or ""
        rows.commit(SECOND[1:], (chat, "assistant", text))
        rows.commit(THIRD)
        used = answer.usage.completion_tokens if answer.usage else 0
        return {"message": {"role": "assistant", "text": text}, "usage": {"output_tokens": used}}

    return app


def floor_app() -> Any:
    """Return the least app for a turn: Flask, our connection to the model, and the rows; it checks nothing."""
    from firelaunch.llm.deadline import Deadline
    from firelaunch.llm.wire.http import Transport
    from flask import Flask, request

    app, transport, rows = Flask("floor"), Transport(os.environ["OPENAI_BASE_URL"]), Rows()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}

    @app.post("/v1/chats/<chat>/messages")
    def send(chat: str) -> dict[str, Any]:
        rows.commit(FIRST[1:], (chat, "user", request.get_json()["text"]))
        asked = {"model": "bench", "messages": rows.history(chat), "max_tokens": 1024}
        deadline = Deadline(time.monotonic() + 60, 60, 60)
        response = transport.post("/chat/completions", headers, json.dumps(asked).encode(), deadline)
        answer = json.loads(response.text())
        text = answer["choices"][0]["message"]["content"]
        rows.commit(SECOND[1:], (chat, "assistant", text))
        rows.commit(THIRD)
        used = answer["usage"]["completion_tokens"]
        return {"message": {"role": "assistant", "text": text}, "usage": {"output_tokens": used}}

    return app


def flask_app() -> Any:
    """A Flask route that answers without a model or a store."""
    from flask import Flask, request

    app = Flask("bare")

    @app.post("/v1/chats/<chat>/messages")
    def send(chat: str) -> dict[str, Any]:
        return {"chat": chat, "text": "An answer in one piece. " * 8, "asked": request.get_json()["text"]}

    return app
