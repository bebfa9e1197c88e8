"""Many guests against a ceiling on several processes that get killed, and a model server that keeps its own books."""
