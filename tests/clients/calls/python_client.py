"""A round trip by the client that openapi-python-client makes."""

import io
import json
import sys
from datetime import date, datetime

from generated import AuthenticatedClient, Client
from generated.api.chats import create_chat, delete_chat, get_chat, list_chats, send_message
from generated.api.development import create_dev_token
from generated.api.documents import upload_document
from generated.api.meals import add_meal
from generated.models import (
    Answer,
    Chat,
    ChatPage,
    DevToken,
    DevUser,
    DocumentAnswer,
    DocumentUpload,
    ErrorAnswer,
    Meal,
    NewChat,
    NewMeal,
    NewMessage,
)
from generated.types import File

CONTENT = b"Tea is grown in Rize."


def main(url: str) -> dict[str, object]:
    signed_in = create_dev_token.sync(client=Client(base_url=url), body=DevUser(uid="ada"))
    assert isinstance(signed_in, DevToken)
    client = AuthenticatedClient(base_url=url, token=signed_in.token)

    chat = create_chat.sync(client=client, body=NewChat())
    assert isinstance(chat, Chat)
    assert isinstance(chat.created_at, datetime)
    answer = send_message.sync(chat.id, client=client, body=NewMessage(text="Hello"))
    assert isinstance(answer, Answer), answer
    listed = list_chats.sync(client=client, limit=10)
    assert isinstance(listed, ChatPage)
    form = DocumentUpload(file=File(payload=io.BytesIO(CONTENT), file_name="notes.txt"), library=False)
    uploaded = upload_document.sync(client=client, body=form)
    assert isinstance(uploaded, DocumentAnswer), uploaded
    error = get_chat.sync("nothing", client=client)
    assert isinstance(error, ErrorAnswer)
    meal = add_meal.sync(client=client, body=NewMeal(name="Soup", kcal=300, day=date(2026, 3, 2)))
    assert isinstance(meal, Meal), meal
    gone = delete_chat.sync_detailed(chat.id, client=client)
    return {
        "said": answer.message.text,
        "listed": [item.id == chat.id for item in listed.items],
        "uploaded": uploaded.name,
        "bytes": uploaded.bytes_,
        "error": error.error.code,
        "kind": str(meal.kind),
        "deleted": int(gone.status_code),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
