"""Says which golden encodings the contract needs and does not have, and writes them.

  python -m tests.contract.golden            says which are missing; exit code 1 where one is
  python -m tests.contract.golden --write    writes those; never changes one that is there

A golden that the contract no longer fits is a client that no longer works. Its two files may be removed by hand only as
long as no release had them.
"""

from __future__ import annotations

import argparse
import sys

from .files import missing, read, write


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.contract.golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write what is missing")
    arguments = parser.parse_args()
    goldens = read()
    needed = list(missing(goldens))
    for golden in needed:
        if arguments.write:
            write(golden)
        print(f"{'written' if arguments.write else 'missing'}: {golden}")
    print(f"{len(goldens) + (len(needed) if arguments.write else 0)} goldens")
    return 1 if needed and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
