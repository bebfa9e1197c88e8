"""Rerankers: they read the hits of a search, and order them better than an index can."""
