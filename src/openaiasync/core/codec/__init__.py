"""Parameters to requests, bytes to answers, events to whole answers."""
