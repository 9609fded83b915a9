"""The directory of a run: its files, its lock, its log, and the check that all workers mean the same run."""
