"""What calls cost: reservations, and models that are called outside a turn."""
