"""Models behind one small seam (:mod:`.base`): the gateway that calls them, their prices, their providers."""
