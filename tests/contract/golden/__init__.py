"""Golden encodings: the contract's messages as bytes and as JSON, which every release and language must read alike."""
