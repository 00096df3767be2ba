"""The registry's page: its address, what is in it, the admin user's keys, and the named tokens."""

from collections.abc import Mapping
from datetime import timedelta

from sanderling.errors import Denied, Invalid
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import IssuedToken

# What the form offers: days, or as long as the token is there.
LIVES = {"1": "1 day", "30": "30 days", "90": "90 days", "365": "a year", "": "until it is deleted"}
RIGHTS = {"pull": ("pull",), "push": ("pull", "push"), "all": ("pull", "push", "delete"), "list": ("list",)}


def show_registry(visit: Visit, issued: IssuedToken | None = None) -> Page:
    """Login server, access keys, tokens and repositories. Keys that may not be seen leave the rest readable.

    *issued* is a token that was made just now: its password is shown this once.
    """
    registry = visit.home.registry
    keys, fault = None, None
    try:
        keys = registry.credentials()
    except Denied as error:
        fault = error.message
    login_server = keys.login_server if keys else visit.home.login_server
    values = {
        "login_server": login_server,
        "repositories": registry.repositories(),
        "usage": registry.space.usage(),
        "keys": keys,
        "fault": fault,
        "tokens": registry.tokens.list(),
        "issued": issued,
        "lives": LIVES,
    }
    return Page("registry.html", "registry", values)


def set_admin_user(visit: Visit, fields: Mapping[str, str]) -> str:
    """Turn the admin user on or off; return what to say."""
    if fields.get("enabled") not in ("true", "false"):
        raise Invalid("the form does not say whether to turn the admin user on or off")
    enabled = fields["enabled"] == "true"
    visit.home.registry.enable_admin(enabled)
    return "admin-on" if enabled else "admin-off"


def regenerate(visit: Visit, fields: Mapping[str, str]) -> str:
    """Replace one of the two passwords; return what to say."""
    visit.home.registry.regenerate(fields.get("name", ""))
    return "regenerated"


def create_token(visit: Visit, fields: Mapping[str, str]) -> Page:
    """Make a named token; return the page that shows its password."""
    life, rights = fields.get("life", ""), fields.get("rights", "")
    if life not in LIVES or rights not in RIGHTS:
        raise Invalid("the form does not say what the token may do, or for how long")
    issued = visit.home.registry.tokens.create(
        fields.get("name", "").strip(),
        [fields.get("repository", "").strip() or "*"],
        RIGHTS[rights],
        expires_in=timedelta(days=int(life)) if life else None,
    )
    return show_registry(visit, issued)


def delete_token(visit: Visit, fields: Mapping[str, str]) -> str:
    """Delete a named token; return what to say."""
    visit.home.registry.tokens.delete(fields.get("name", ""))
    return "token-deleted"
