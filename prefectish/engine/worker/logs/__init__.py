"""The log of an attempt: captured where the body runs, shown where the flow runs."""
