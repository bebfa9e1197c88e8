"""firelaunch: what the AI apps of one Firebase project share."""
