"""Turns with everything that can go wrong, against a model server that keeps its own books."""
