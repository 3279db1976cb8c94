"""What a person sees of flows, states and runs: live progress, notebook representations, reports.

The engine imports this package by name, and only when it is used.
"""
