"""Features made of several calls: a turn with its tools and repairs, and sessions of many turns."""
