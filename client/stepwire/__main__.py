"""`python -m stepwire` is `stepwire`."""

from __future__ import annotations

from stepwire.cli import main

if __name__ == "__main__":
    main()
