"""Meter what model calls cost: reservations, admission, and model calls outside a turn."""
