"""HTTP and event streams to model providers, and the relay that passes their bytes on."""
