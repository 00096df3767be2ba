"""The demo: the whole journey on one machine, with real handwritten digits.

- `story` tells it in nine steps; `server_steps`, `device_steps` and `scoring_steps` are those steps.
- `training` makes the model, `score.py` is the script that goes into the image.
- `relay` stands between the device and the server, so that the link can be cut.
- `sensor` is the device's own sender of messages.
- `children` and `interruption` see to it that nothing is left running, whatever happens.

It uses the SDK as any program would, and starts the server and the edge runtime as processes of their own.
"""

from sanderling.demo.story import DemoOptions, run

__all__ = ["DemoOptions", "run"]
