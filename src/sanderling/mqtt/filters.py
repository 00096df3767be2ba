"""Topic names and topic filters (4.7): which are well-formed, and what a filter matches."""


def is_valid_topic(topic: str) -> bool:
    """Whether *topic* may be published to: not empty, no wildcard, no NUL, at most 65,535 bytes."""
    return _is_text(topic) and not any(c in topic for c in "+#")


def is_valid_filter(topic_filter: str) -> bool:
    """Whether *topic_filter* may be subscribed to: wildcards stand alone in a level, ``#`` only in the last."""
    if not _is_text(topic_filter):
        return False
    levels = topic_filter.split("/")
    if "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or not any(c in level for c in "+#") for level in levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription to *topic_filter* receives what is published to *topic*.

    A leading wildcard does not match a topic that begins with ``$`` (4.7.2).
    """
    wanted, given = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(given) or level not in ("+", given[position]):
            return False
    return len(wanted) == len(given)


def _is_text(text: str) -> bool:
    return bool(text) and "\0" not in text and len(text.encode("utf-8", "surrogatepass")) <= 0xFFFF
