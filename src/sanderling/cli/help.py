"""How `--help` shows an example: below the text, as it is typed."""


def example(*commands: str) -> str:
    """An epilog with *commands*, each on a line of its own."""
    # \b keeps the lines from being joined and wrapped.
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)
