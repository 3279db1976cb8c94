"""Flows that run as they are: each is a module with a command line."""
