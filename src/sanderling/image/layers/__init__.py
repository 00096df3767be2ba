"""Files become layers: the same files, the same bytes, made once."""
