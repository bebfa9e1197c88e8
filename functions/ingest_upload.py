"""A file that a user's client put into Firebase Storage becomes a document of theirs."""

from firelaunch.documents.catalog import DocumentSource
from firelaunch.functions import Call, StorageObject, scoped


@scoped("apps/{app}/users/{uid}/uploads/{name}", "google.cloud.storage.object.v1.finalized")
def ingest_upload(call: Call) -> None:
    """Cloud Storage, when an upload is whole: docs/functions.md. Each generation of a file is taken in once."""
    stored: StorageObject = call.data
    name = call.names["name"]
    call.services.documents.add(call.scope, DocumentSource("upload", name), key=f"{name}#{stored.generation}")
