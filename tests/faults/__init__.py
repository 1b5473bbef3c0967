"""What happens when servers, networks and callers misbehave: scenarios over real sockets, each with its promises."""
