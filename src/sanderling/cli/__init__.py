"""The command line: `sanderling VERB` for the path, `sanderling NOUN VERB` for the rest.

- Exit code 0: done. 1: it failed. 2: wrong usage or bad input. 130: interrupted.
- With `--json`, stdout holds one JSON document and all else goes to stderr.
- An error is one line, `error: ...`, and what to do about it, `try: ...`;
  SANDERLING_DEBUG=1 adds the traceback.
- Commands speak the public API through the SDK. Only `up`, `edge`, `serve` and
  `demo` start other rooms, and they import them when they are called.
"""

from sanderling.cli.app import main

__all__ = ["main"]
