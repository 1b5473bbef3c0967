"""Random mutations of what servers send; see `target`."""
