"""The examples' own tests run in a copy of each app, as a founder runs them: see test_examples.py."""

collect_ignore_glob = ["*/*"]
