"""The tests of models behind an OpenAI-compatible endpoint."""
