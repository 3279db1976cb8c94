"""What runs where the body runs: one attempt of one step, and all that belongs to it."""
