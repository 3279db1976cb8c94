"""The rules of a run: states, signals, and the functions that lead from one state to the next."""
