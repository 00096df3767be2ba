"""What is asked of conda's solver, made from the environment, the platform and the base."""

import hashlib
import json
import re
from dataclasses import dataclass

from sanderling.errors import Invalid
from sanderling.image.conda.channels import Channel, logins, read_channels
from sanderling.image.conda.lock import LOCK_VERSION
from sanderling.image.environment.conda_part import CondaPart
from sanderling.oci import Platform

SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64", "linux/arm/v7": "linux-armv7l"}
_SPEC_CHANNEL = re.compile(r"^(?P<channel>\S+?)(?:/(?P<subdir>noarch|linux-[a-z0-9_]+))?::(?P<rest>[^:].*)$")
_PIP = re.compile(r"^(?:\S+::)?pip(?![\w.-])")
_PYTHON = re.compile(r"^(?:\S+::)?python(?![\w.-])")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be solved: conda's words, on one platform and C library."""

    channels: tuple[Channel, ...]
    specs: tuple[str, ...]
    platform: Platform
    glibc: tuple[int, int]

    @property
    def subdir(self) -> str:
        """The platform in conda's words."""
        return SUBDIRS[str(self.platform)]

    def key(self) -> str:
        """The name of the lock."""
        urls = [channel.url for channel in self.channels]
        made_from = [LOCK_VERSION, urls, self.specs, str(self.platform), self.glibc]
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def read_wish(part: CondaPart, platform: Platform, glibc: tuple[int, int]) -> Wish:
    """What *part* asks for on *platform* and a base with *glibc*; Python is always wanted.

    Channels that only a specification names come after those of the file. Pip is left out: the image's packages
    are installed without it, and nothing is installed later.
    Raises ChannelInvalid, and Invalid for a platform that conda does not know.
    """
    if str(platform) not in SUBDIRS:
        raise Invalid(f"conda has no packages for {platform}; possible are {', '.join(SUBDIRS)}")
    channels = {channel.url: channel for channel in read_channels(part.channels)}
    specs = []
    for text in (spec.strip() for spec in part.specs):
        found = _SPEC_CHANNEL.match(text)
        if _PIP.match(text):
            continue
        if found is None:
            specs.append(text)
            continue
        channel = read_channels([found["channel"]])[0]
        channels.setdefault(channel.url, channel)
        below = f"/{found['subdir']}" if found["subdir"] else ""
        specs.append(f"{channel.url}{below}::{found['rest']}")
    if not any(_PYTHON.match(spec) for spec in specs):
        specs.append("python")
    return Wish(tuple(channels.values()), tuple(specs), platform, glibc)


def channel_logins(part: CondaPart) -> dict[str, tuple[str, str]]:
    """User and password by host, of the channels of *part*. Raises ChannelInvalid."""
    named = [found["channel"] for spec in part.specs if (found := _SPEC_CHANNEL.match(spec.strip()))]
    return logins(read_channels([*part.channels, *named]))
