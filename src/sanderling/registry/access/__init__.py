"""Who may do what: admin users, tokens, rights, and the slowing of those who guess."""
