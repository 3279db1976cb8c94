"""Small helpers for flow authors."""
