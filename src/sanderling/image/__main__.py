"""``python -m sanderling.image SPEC.json``: see `sanderling.image.worker`."""

import sys

from sanderling.image.worker import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
