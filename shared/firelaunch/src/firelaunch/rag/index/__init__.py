"""Indexes that store and find chunks and their vectors: one port, and an adapter for each."""
