"""What the user wants inside: the environment file, read into requirements."""
