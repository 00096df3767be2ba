"""Conda packages: chosen for the target by py-rattler, put into layers by us; nothing of them runs."""
