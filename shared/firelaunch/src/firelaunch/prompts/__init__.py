"""Versioned prompts, and the file that pins them."""
