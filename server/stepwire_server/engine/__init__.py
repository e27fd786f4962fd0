"""Runs plans: no gRPC here, and no SQL."""
