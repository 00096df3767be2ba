"""The registry's page: its address, what is in it, and the admin user's keys."""

from collections.abc import Mapping

from sanderling.errors import Denied, Invalid
from sanderling.portal.visit import Page, Visit


def show_registry(visit: Visit) -> Page:
    """Login server, access keys and repositories. Keys that may not be seen leave the rest readable."""
    registry = visit.home.registry
    keys, fault = None, None
    try:
        keys = registry.credentials()
    except Denied as error:
        fault = error.message
    login_server = keys.login_server if keys else visit.home.login_server
    values = {"login_server": login_server, "repositories": registry.repositories(), "keys": keys, "fault": fault}
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
