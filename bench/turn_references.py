"""The usual ways to answer a message in one piece, for ``bench/turn_served.py``."""

# Annotations are evaluated, as FastAPI looks up what a route takes among a module's names, and these are a function's.

import json
import os
import secrets
import sqlite3
import time
from typing import Any

HISTORY = 12
"""The messages of a chat that the model gets, as in the template's settings."""

FIRST, SECOND, THIRD = (209, 222, 154, 452), (616, 147), (250, 579, 632, 294, 291, 798)
"""Bytes of the rows that a turn of ours writes: when the message is admitted, the answer's own, and what it cost."""


def fastapi_app() -> Any:
    """FastAPI with AsyncOpenAI, and SQLite in the loop's thread: shorter calls than a hand-over would take."""
    from fastapi import FastAPI
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    class Message(BaseModel):
        text: str

    app, client = FastAPI(), AsyncOpenAI()
    store = sqlite3.connect(os.environ["DATA"], isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = NORMAL")
    store.execute("CREATE TABLE messages (id TEXT PRIMARY KEY, chat TEXT, at REAL, role TEXT, data TEXT)")
    store.execute("CREATE INDEX of_chat ON messages (chat, at)")
    store.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, data TEXT)")

    def commit(sizes: tuple[int, ...], *messages: tuple[str, str, str]) -> None:
        store.execute("BEGIN IMMEDIATE")
        for chat, role, text in messages:
            values = (secrets.token_hex(16), chat, time.time(), role, json.dumps({"text": text}))
            store.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", values)
        rows = [(secrets.token_hex(16), json.dumps({"text": "x" * size})) for size in sizes]
        store.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", rows)
        store.execute("COMMIT")

    @app.post("/v1/chats/{chat}/messages")
    async def send(chat: str, message: Message) -> dict[str, Any]:
        commit(FIRST[1:], (chat, "user", message.text))
        query = "SELECT role, data FROM messages WHERE chat = ? ORDER BY at DESC LIMIT ?"
        found = store.execute(query, (chat, HISTORY)).fetchall()
        history: Any = [{"role": role, "content": json.loads(data)["text"]} for role, data in reversed(found)]
        answer = await client.chat.completions.create(model="bench", messages=history, max_tokens=1024)
        text = answer.choices[0].message.content or ""
        commit(SECOND[1:], (chat, "assistant", text))
        commit(THIRD)
        used = answer.usage.completion_tokens if answer.usage else 0
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
