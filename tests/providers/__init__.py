"""How servers of OpenAI's chat completions differ, played over a socket to the client that apps use.

:mod:`providers.quirks` has one entry for each difference, :mod:`providers.play` plays them. docs/providers.md has the
same entries as a table.
"""
