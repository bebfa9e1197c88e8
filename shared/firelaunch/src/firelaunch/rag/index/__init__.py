"""Where chunks and their vectors are kept and found: one port, an adapter for each index."""
