"""An app's documents as a file of JSON lines, out of one database and into another."""
