"""Prove on a real Google project what no emulator can: a throw-away app, proofs one by one, and its removal."""
