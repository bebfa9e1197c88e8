"""Language models: the gateway that calls them, their prices and their providers, on the types of :mod:`.types`."""
