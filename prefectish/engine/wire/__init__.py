"""Messages between the client and the processes that run bodies."""
