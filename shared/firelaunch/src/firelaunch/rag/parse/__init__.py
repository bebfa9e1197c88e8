"""Turn any supported file into blocks of text in reading order, parsed in a process of its own."""

from ... import former_names
from .base import Block, ParseLimits, document_text
from .omissions import Omission
from .sandbox import extracts, links, parse, pdf_size, pictures

__all__ = ["Block", "Omission", "ParseLimits", "document_text", "extracts", "links", "parse", "pdf_size", "pictures"]

__getattr__ = former_names(__name__, {"Limits": "firelaunch.rag.parse.ParseLimits"})
