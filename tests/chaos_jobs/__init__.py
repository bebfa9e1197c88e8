"""Workers that are killed at random while there are jobs: none may be lost, none may be applied twice."""
