"""Chats, their messages, and the events, checkpoints and transcripts of streamed answers. Turns are in ``turns``."""
