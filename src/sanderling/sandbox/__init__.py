"""A closed box for programs that are not ours, without a daemon: an image's layers as a root, and bubblewrap.

The device runs modules in it, the image builder tries an image in it before it is published.

    layers ──unpack──▶ trees ──rootfs──▶ root ──bubblewrap──▶ options ──launch──▶ a process

- `unpack` makes one folder of one layer, verified, and never leaves it; `rootfs` merges them by hard links.
- `bubblewrap` says with which options: pure. `launch` says how to start it, as root or not.
- `processes` ends what runs.
"""
