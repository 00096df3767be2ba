"""Serve a scoring script: `init()` once, then `run()` for every request or message.

This package ships alone inside every image, so it keeps three rules. It imports
the standard library only. It runs on Python 3.9 and later. It imports late what
only some of its users need, because its start is the start of every module.

Public names: `sanderling_scoring.command.main`, the command behind
`python -m sanderling_scoring`. The contract is that of azureml's inference
server: the same variables, routes, headers and texts.

How the parts hang together:

    http_server ──Request──▶ routes ──Job──▶ scorer ──▶ script.run()
    module_client ──message──────────Job──────▲

The scorer owns the main thread, where `init()` ran: some libraries bind what
they make to the thread that made it. HTTP and MQTT have threads of their own, so
health answers while `run()` is at work.
"""

__version__ = "0.1.0"
