"""The web pages: what a browser shows of workspaces, models, images, registry, devices and messages.

The portal speaks the public API through the SDK and has no way in but that. It is
server-rendered, loads nothing from elsewhere, and works without scripts, except
that the sign-in link's code then has to be pasted.

It answers `/`, `/sign-in`, `/sign-out`, `/assets/...`, `/workspaces/...` and `/fleet/...`;
`/devices` and the like belong to the hub on the same port.
"""

from sanderling.portal.application import app

__all__ = ["app"]
