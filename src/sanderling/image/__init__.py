"""Images without a daemon, without root, and without running what is the user's."""
