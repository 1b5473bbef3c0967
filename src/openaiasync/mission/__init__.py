"""Hand-written methods under the mission names, which generated namespaces and the client inherit."""
