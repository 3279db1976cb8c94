"""What a person sees of flows, states and runs: live progress, notebook representations, reports.

The engine reaches this package by name, and only when somebody looks.
"""
