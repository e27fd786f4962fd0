"""The gRPC service: translates, and decides nothing."""
