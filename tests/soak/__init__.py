"""A served app under a mixed load for a long time: its memory, threads, files and sockets stay as they are."""
