"""One message and its answer: admit, answer, settle."""
