"""The HTTP API: one blueprint a noun. A blueprint gets its services as arguments and keeps no state."""
