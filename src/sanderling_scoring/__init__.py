"""The scoring server that ships inside every image."""
