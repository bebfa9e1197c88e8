"""Play faults of the machine to a served app, and look at its users' data and its books afterwards."""
