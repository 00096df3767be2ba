"""Builds without a server: on the user's machine, into files, engines and registries, also with no network.

- `build_here` makes an image and takes it to its `Destination`s.
- `prefetch` fills a folder with all that a build fetches; `OfflineFolder` reads it.
"""
