"""Processes that are killed at random while documents are indexed and re-embedded: no chunk may be lost or doubled."""
