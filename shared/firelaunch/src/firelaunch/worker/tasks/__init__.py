"""The kinds of jobs that the worker runs."""
