"""From texts to vectors: one port, a model behind it, and the batches between the two."""
