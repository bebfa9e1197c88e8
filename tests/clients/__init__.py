"""Clients that generators make of ``/openapi.json``: generated, compiled and run against a served app."""
