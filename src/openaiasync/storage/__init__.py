"""Files: locks, atomic writes, bounded reads, append-only journals. All that is saved is saved with these."""
