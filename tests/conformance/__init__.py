"""The conformance kit: a scripted server, cases as data, and adapters of clients in any language."""
