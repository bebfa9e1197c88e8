"""A document whose record is gone leaves no entries in the indexes and no files, whoever removed the record."""

from firelaunch.functions import Call, Change, scoped
from firelaunch.scope import check_id


@scoped("apps/{app}/users/{uid}/documents/{document}", "google.cloud.firestore.document.v1.written")
def on_document_written(call: Call) -> None:
    """Firestore, whenever a document's record was written: docs/functions.md."""
    change: Change = call.data
    document = check_id(call.names["document"])
    if change.after is None and call.services.store.get(call.scope.document(document)) is None:
        call.services.documents.wipe(call.scope, document)
