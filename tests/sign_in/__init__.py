"""The client's code in docs/auth.md, run by the real Firebase SDK for JavaScript."""
