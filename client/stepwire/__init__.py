"""The client of Stepwire."""
