"""`openaiasync.lib.beta`: helpers that are still being shaped, under their official paths."""
