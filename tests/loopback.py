"""A loopback address of this process's own, for clients that know one port only: two test runs do not meet."""

import os


def own_address() -> str:
    pid = os.getpid()
    return f"127.{64 + (pid >> 16) % 128}.{(pid >> 8) % 256}.{pid % 256}"
