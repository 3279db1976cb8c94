"""Secrets: lookup, and masking in logs, records and messages."""
