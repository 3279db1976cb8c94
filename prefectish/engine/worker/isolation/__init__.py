"""Attempts in a process of their own."""
