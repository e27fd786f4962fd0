"""The terminal client. It needs click and rich: the extra `cli`."""
