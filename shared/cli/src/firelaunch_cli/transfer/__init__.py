"""Export an app's documents to a file of JSON lines, and import them into another database."""
