"""Extra steps of a Dockerfile upon a finished image: files become layers, settings go into its config.

- `check_steps` refuses what cannot be, before anything is fetched.
- `apply_steps` makes the layers; RUN alone runs a program, in a container engine.
"""

from sanderling.image.steps.apply import Applied, apply_steps
from sanderling.image.steps.check_steps import check_steps, count_steps

__all__ = ["Applied", "apply_steps", "check_steps", "count_steps"]
