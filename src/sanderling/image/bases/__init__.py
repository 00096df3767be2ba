"""What an image stands on: a base, and those who make one.

A `BaseMaker` says which Python its bases have, and makes the base of each platform:
`DebianBase` from Debian's signed packages, `OciBase` from an image of any registry.
`choose_base` says which of them a recipe wants.

- Nothing of a base runs at build time; its Python is found by looking at its files.
- What was used is pinned by digest, and is in the log, in the record and in the image.
- A base that is there already is neither fetched nor pushed again, nor compressed anew.
"""

from sanderling.image.bases.base import Base, BaseMaker
from sanderling.image.bases.choose import BaseSources, choose_base

__all__ = ["Base", "BaseMaker", "BaseSources", "choose_base"]
