"""The loop that drives a run, and the handle that controls it."""
