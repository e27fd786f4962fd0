"""The server of Stepwire."""
