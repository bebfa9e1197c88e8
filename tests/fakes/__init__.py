"""Servers that only our own tests need: Google's APIs, Cloud Tasks and vector services, with what they refuse."""
