"""How the documentation is built: scripts/docs."""

project = "Sanderling"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Sanderling"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []
nitpicky = True
