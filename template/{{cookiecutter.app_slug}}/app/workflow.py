"""What happens in one turn. This is the file to edit.

When ``answer`` is called the user's message is stored, and what the answer may cost is reserved from their daily
budget. Each piece of text that it yields goes to the client at once. When it ends, however it ends, the answer, its
exact tokens and its cost are stored in one commit.
"""

from collections.abc import Iterator

from firelaunch import Chunk, Message, Turn


def answer(turn: Turn) -> Iterator[Chunk]:
    """Answer the message ``turn.text``, given what was said before and what the documents hold.

    ``turn.passages`` is what was found in the user's documents and the app's library, numbered, to be cited as [1]; it
    is empty where there are none. ``turn.llm`` retries, falls back to the models named in firelaunch.toml, and is
    metered. With ``tools=[...]`` it offers the model Python functions, each with type hints and a docstring.
    """
    instructions = turn.prompt("chat", app_name=turn.app.name)
    messages: list[Message] = [
        {"role": "system", "content": instructions},
        *turn.history,
        {"role": "user", "content": turn.passages + turn.text},
    ]
    yield from turn.llm.stream(messages)
