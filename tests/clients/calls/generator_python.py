"""A round trip by openapi-generator's client for Python."""

import json
import sys
from datetime import date, datetime

from openapi_client import (
    ApiClient,
    ChatsApi,
    Configuration,
    DevelopmentApi,
    DevUser,
    DocumentsApi,
    MealsApi,
    NewChat,
    NewMeal,
    NewMessage,
)
from openapi_client.exceptions import NotFoundException
from openapi_client.models import ErrorAnswer

CONTENT = b"Tea is grown in Rize."


def main(url: str) -> dict[str, object]:
    with ApiClient(Configuration(host=url)) as anyone:
        token = DevelopmentApi(anyone).create_dev_token(DevUser(uid="ada")).token
    with ApiClient(Configuration(host=url, access_token=token)) as api:
        chats = ChatsApi(api)
        chat = chats.create_chat(NewChat())
        assert isinstance(chat.created_at, datetime)
        answer = chats.send_message(chat.id, NewMessage(text="Hello"))
        listed = chats.list_chats(limit=10)
        uploaded = DocumentsApi(api).upload_document(("notes.txt", CONTENT), library=False)
        try:
            chats.get_chat("nothing")
        except NotFoundException as refused:
            error = refused.data
        assert isinstance(error, ErrorAnswer)
        meal = MealsApi(api).add_meal(NewMeal(name="Soup", kcal=300, day=date(2026, 3, 2)))
        gone = chats.delete_chat_with_http_info(chat.id)
        return {
            "said": answer.message.text,
            "listed": [item.id == chat.id for item in listed.items],
            "uploaded": uploaded.name,
            "bytes": uploaded.bytes,
            "error": error.error.code,
            "kind": meal.kind,
            "deleted": gone.status_code,
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
