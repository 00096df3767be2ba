"""The device: pulls and runs modules, routes their messages, works without the server."""
