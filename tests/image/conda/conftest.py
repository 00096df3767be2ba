"""What these tests share: a platform and the words for it."""

import pytest

from sanderling.image.conda.lock import CondaPackage
from sanderling.oci import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
ARMV7 = Platform.parse("linux/arm/v7")


@pytest.fixture
def chosen() -> CondaPackage:
    """A package as a lock has it."""
    return CondaPackage(
        "tool", "1.0", "0", "linux-64", "https://host.example/team/linux-64/tool-1.0-0.conda", "0" * 64, 10,
        "https://host.example/team",
    )  # fmt: skip
