"""docs/mobile.md, played against a served app."""
