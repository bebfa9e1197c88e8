"""Document stores: one port (:mod:`.base`), its adapters, and the wall around one app's part of it (:mod:`.scoped`)."""
