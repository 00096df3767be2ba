"""``python -m sanderling.image SPEC.json``: see `sanderling.image.service.worker`."""

import sys

from sanderling.image.service.worker import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
