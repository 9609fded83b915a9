"""Start worker processes, supervise them, and report how they ended."""
