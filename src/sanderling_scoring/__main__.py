"""The entry point of every image: `python -m sanderling_scoring`."""

import sys

from sanderling_scoring.command import main

if __name__ == "__main__":
    sys.exit(main())
