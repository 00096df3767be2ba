"""Wheels: which ones, for which platform, and what they install."""
