"""The gate: an image is tried in a sandbox before it is published.

    image ──roots──▶ a root file system ──box──▶ init(), run() ──verdict──▶ publish, or GateFailed

- `gate` decides whether an image can be tried here, tries it, and remembers what passed.
- `roots` lays layers out below the cache; `box` runs a command on a root, within `limits`.
- `verdict` turns the scoring server's report into a sentence with file and line.
"""
