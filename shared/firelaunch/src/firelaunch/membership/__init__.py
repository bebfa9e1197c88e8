"""Who belongs to which app: the one place that sets the custom claims which rules and services decide by."""
