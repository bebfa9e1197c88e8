"""Chats: their messages, the events of a streamed answer, its checkpoints and its transcript."""
