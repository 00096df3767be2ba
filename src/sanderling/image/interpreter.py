"""The Python inside an image: what it can run, and where it looks for packages."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python of a base. Paths have no slash at their ends, unless said.

    version: major and minor, as "3.11".
    prefix: the folder it is installed in, as "usr".
    site: where packages are put, as "usr/lib/python3/dist-packages".
    glibc: the version of the C library, as (2, 36); wheels for a newer one do not run.
    program: where python itself is, when that is not python3 among the scripts, as "usr/bin/python3".
    """

    version: str
    prefix: str
    site: str
    glibc: tuple[int, int]
    program: str = ""

    @property
    def executable(self) -> str:
        """The program, from the root: "/usr/bin/python3"."""
        return f"/{self.program or f'{self.scripts}/python3'}"

    @property
    def scripts(self) -> str:
        """Where the commands of packages are put."""
        return f"{self.prefix}/bin"


DEBIAN_12 = Interpreter("3.11", "usr", "usr/lib/python3/dist-packages", (2, 36))
DEBIAN_13 = Interpreter("3.13", "usr", "usr/lib/python3/dist-packages", (2, 41))
