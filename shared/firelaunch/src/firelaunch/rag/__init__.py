"""From documents to passages: parsing, chunking, fetching, indexes, retrieval."""
