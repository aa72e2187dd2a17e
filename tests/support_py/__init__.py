"""Helpers of the integration tests: the daemon, its peers and its clients, all on loopback."""
