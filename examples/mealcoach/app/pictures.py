"""A meal's picture: a file that the app keeps beside the meal, and that goes with it."""

from firelaunch import Path, Routes, WriteEvent, caller_services, data, file_response, on_write
from flask import Response, request

from .meals import meals

TYPES = ("image/jpeg", "image/png", "image/webp")

routes = Routes("pictures")


@routes.put("/meals/<id>/picture", operation_id="putPicture", consumes=TYPES, body_bytes=10_000_000)
def put(path: Path) -> None:
    """Keep the body as the picture of a meal."""
    files = caller_services().files
    data(meals).get(path.id)  # 404 where the user has no such meal
    files.put(path.id, request.stream, request.mimetype)
    if data(meals).find(path.id) is None:  # the meal was deleted while its picture arrived
        files.delete(path.id)


@routes.get("/meals/<id>/picture", operation_id="getPicture", produces=TYPES)
def get(path: Path) -> Response:
    """Read the picture of a meal."""
    return file_response(caller_services().files, path.id)


@on_write("meals/{meal}")
def meal_deleted(event: WriteEvent) -> None:
    """Delete the picture of a meal that is gone."""
    if event.data(meals).find(event.names["meal"]) is None:
        event.files.delete(event.names["meal"])
