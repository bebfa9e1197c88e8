"""Measure search on a collection, and check an app's answers."""
