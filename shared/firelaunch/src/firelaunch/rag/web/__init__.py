"""Fetch web pages without reaching private addresses."""
