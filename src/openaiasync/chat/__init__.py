"""What is made of several calls: one turn with its tools and its repairs, and sessions of many turns."""
