"""The one error of this room."""

from sanderling.errors import Invalid


class DockerfileInvalid(Invalid):
    """The Dockerfile cannot be used as it is; *line* counts from 1 (None: the whole file)."""

    def __init__(self, text: str, *, file: str, line: int | None = None) -> None:
        super().__init__(f"{file}, line {line}: {text}" if line else f"{file}: {text}")
        self.file, self.line = file, line
