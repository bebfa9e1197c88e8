"""The values of a PDF's form fields, and the texts that readers typed onto its pages."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["FormFields"]

_MOST_CHARACTERS = 100_000
_MOST_ANNOTATIONS = 5_000


class FormFields:
    """The form of an open document. Documents without fields and annotations cost little."""

    def __init__(self, document: Any) -> None:
        from pypdfium2 import raw

        self._raw = raw
        self._document = document
        kind = raw.FPDF_GetFormType(document)
        self._form = None if kind == raw.FORMTYPE_NONE else self._open()
        self.is_dynamic = kind == raw.FORMTYPE_XFA_FULL
        """Whether the fields are in a language of their own (XFA), which is not read."""

    def _open(self) -> Any:
        self._document.init_forms()
        return self._document.formenv

    def of_page(self, page: Any) -> Iterator[str]:
        """Yield "name: value" of each filled field of a page, and texts typed onto it.

        A field's name is the one that it shows to readers, if it has one.
        """
        raw = self._raw
        seen = set()
        for at in range(min(raw.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)):
            annotation = raw.FPDFPage_GetAnnot(page, at)
            if not annotation:
                continue
            try:
                line = self._line(annotation)
            finally:
                raw.FPDFPage_CloseAnnot(annotation)
            if line and line not in seen:
                seen.add(line)
                yield line

    def _line(self, annotation: Any) -> str:
        raw = self._raw
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        if kind == raw.FPDF_ANNOT_FREETEXT:
            return self._text(lambda *to: raw.FPDFAnnot_GetStringValue(annotation, b"Contents", *to))
        if kind != raw.FPDF_ANNOT_WIDGET or self._form is None:
            return ""
        value = self._value(annotation)
        if not value:
            return ""
        name = self._text(lambda *to: raw.FPDFAnnot_GetFormFieldAlternateName(self._form, annotation, *to))
        name = name or self._text(lambda *to: raw.FPDFAnnot_GetFormFieldName(self._form, annotation, *to))
        return f"{name}: {value}" if name else value

    def _value(self, annotation: Any) -> str:
        """Return a field's value; "yes" for a ticked box that has no other. Buttons and signatures have none."""
        raw = self._raw
        kind = raw.FPDFAnnot_GetFormFieldType(self._form, annotation)
        if kind in {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}:
            if not raw.FPDFAnnot_IsChecked(self._form, annotation):
                return ""
            value = self._text(lambda *to: raw.FPDFAnnot_GetFormFieldExportValue(self._form, annotation, *to))
            return "yes" if value.lower() in {"", "yes", "on", "1", "true"} else value
        if kind in {raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}:
            return self._text(lambda *to: raw.FPDFAnnot_GetFormFieldValue(self._form, annotation, *to))
        return ""

    def _text(self, read: Callable[[Any, int], int]) -> str:
        """Return a text that PDFium gives: ``read`` is called with a buffer and its length in bytes."""
        length = read(None, 0)
        if not 2 < length <= 2 * _MOST_CHARACTERS:
            return ""
        buffer = ctypes.create_string_buffer(length)
        read(ctypes.cast(buffer, ctypes.POINTER(self._raw.FPDF_WCHAR)), length)
        text = buffer.raw[: length - 2].decode("utf-16-le", "replace")
        return " ".join(text.split())
