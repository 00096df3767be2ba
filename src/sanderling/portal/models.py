"""Pages about models."""

from sanderling.portal import hints
from sanderling.portal.listing import ROWS, newest_first
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import Model


def show_models(visit: Visit) -> Page:
    """All versions of all models, newest first."""
    models = newest_first(Model.list(visit.home))
    values = {"models": models[:ROWS], "total": len(models), "register": hints.register()}
    return Page("models.html", "models", values)


def show_model(visit: Visit) -> Page:
    """One version of a model, the latest when none is named, with its files."""
    name = visit.params["name"]
    model = Model.get(visit.home, name, visit.params.get("version"))
    versions = sorted(Model.list(visit.home, name=name), key=lambda one: one.version, reverse=True)
    values = {"model": model, "versions": versions[:ROWS], "build": hints.build(model.id)}
    return Page("model.html", "models", values, at_top=False)
