"""Store documents: the port (:mod:`.base`), its adapters, and the wall around one app's part (:mod:`.scoped`)."""
