"""The AI SDK's own code against a served app."""
