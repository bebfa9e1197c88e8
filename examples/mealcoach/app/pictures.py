"""A meal's picture, as the client sends it: already small, since a record holds a mebibyte at most."""

from firelaunch import Collection, Path, Record, RecordsTransaction, Routes, data
from flask import Response, request

from .meals import meals

TYPES = ("image/jpeg", "image/png", "image/webp")


class Picture(Record):
    """A picture. Its id is its meal's."""

    content: bytes
    content_type: str


pictures = Collection("pictures", Picture, owner="user")
routes = Routes("pictures")


@routes.put("/meals/<id>/picture", operation_id="putPicture", consumes=TYPES)
def put(path: Path) -> None:
    """Keep the body as the picture of a meal."""
    sent = Picture(content=request.get_data(), content_type=request.mimetype)

    def keep(tx: RecordsTransaction[Picture]) -> None:
        tx.of(meals).get(path.id)  # 404 where the user has no such meal
        tx.delete(path.id)
        tx.add(sent, id=path.id)

    data(pictures).transaction(keep)


@routes.get("/meals/<id>/picture", operation_id="getPicture", produces=TYPES)
def get(path: Path) -> Response:
    """Read the picture of a meal."""
    picture = data(pictures).get(path.id)
    return Response(picture.content, mimetype=picture.content_type, headers={"X-Content-Type-Options": "nosniff"})
