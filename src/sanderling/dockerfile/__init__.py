"""The language of Dockerfiles, as far as steps upon a finished image need it: text in, steps out.

Pure: no clock, disk or socket. Source: Docker's Dockerfile reference.

- `parse_dockerfile` splits the text into instructions, each with its line.
- `evaluate` puts variables in and gives steps, and the settings that they add up to.
- `Ignored` and `matches` are the patterns of .dockerignore and of COPY.
"""

from sanderling.dockerfile.evaluate import Evaluated, Settings, evaluate
from sanderling.dockerfile.patterns import Ignored, matches
from sanderling.dockerfile.refused import DockerfileInvalid
from sanderling.dockerfile.steps import Copy, Folder, Run, Step
from sanderling.dockerfile.syntax import Instruction, parse_dockerfile

__all__ = [
    "Copy",
    "DockerfileInvalid",
    "Evaluated",
    "Folder",
    "Ignored",
    "Instruction",
    "Run",
    "Settings",
    "Step",
    "evaluate",
    "matches",
    "parse_dockerfile",
]
