"""Files: locks, whole-or-nothing writes, bounded reads, append-only journals. Below everything that keeps or saves."""
