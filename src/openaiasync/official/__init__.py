"""The official client's helpers: parsed answers, stream events and their accumulated state."""
