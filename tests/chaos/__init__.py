"""What becomes of a served app, its users and its books when the machine below it fails."""
