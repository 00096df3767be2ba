"""One module's twin as seen from the device: pure, topics and bodies in, topics and bodies out.

    no twin ──GET──▶ asked ──200──▶ in step ──patch with the next version──▶ in step
                                       └──patch with another version, or an error──▶ GET again

Desired comes down whole or as patches. Reported goes up level-triggered: what is
wanted is compared with what the hub has, and the difference is sent, one patch
at a time; a lost answer cannot matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Invalid
from sanderling.iot import documents, topics, twin

Json = dict[str, Any]
_ANSWER_S = 30.0
_AFTER_ERROR_S = 15.0


@dataclass(slots=True)
class TwinMirror:
    """Call `connected` after each connection, `take` with what comes, `due` to get what to send."""

    desired: Json | None = None
    reported: Json | None = None
    wanted: Json | None = None
    _request: str | None = None
    _patch: Json | None = None
    _asked_at: float = 0.0
    _not_before: float = 0.0
    _count: int = 0
    _must_get: bool = field(default=True)

    def connected(self) -> None:
        """Begin again: answers to what was asked before do not come any more."""
        self._request = self._patch = None
        self._must_get, self._not_before = True, 0.0

    def due(self, now: float) -> tuple[str, bytes] | None:
        """Return the topic and body to send now, or None."""
        if self._request is not None:
            if now - self._asked_at < _ANSWER_S:
                return None
            self.connected()
        if now < self._not_before:
            return None
        if self._must_get:
            return topics.twin_get_topic(self._ask(None, now)), b" "
        if self.wanted is None or self.reported is None:
            return None
        patch = twin.difference(self.reported, self.wanted)
        if not patch:
            return None
        return topics.reported_patch_topic(self._ask(patch, now)), documents.compact(patch)

    def take(self, topic: topics.Downward, body: bytes, now: float) -> bool:
        """Take an answer or a patch; return whether `desired` changed. Raises `Invalid` for a broken body."""
        match topic:
            case topics.TwinResponse(status=status, request_id=request_id) if request_id == self._request:
                patch, self._request, self._patch = self._patch, None, None
                if status >= 300:
                    self._not_before = now + _AFTER_ERROR_S
                    self._must_get = True
                    return False
                if patch is not None:
                    self.reported = twin.merge(self.reported or {}, patch)
                    return False
                return self._take_whole(documents.parse_object(body, "the twin"))
            case topics.DesiredPatch():
                return self._take_patch(documents.parse_object(body, "the patch of desired properties"))
        return False

    def _take_whole(self, document: Mapping[str, Any]) -> bool:
        desired, reported = document.get("desired"), document.get("reported")
        if not isinstance(desired, dict):
            raise Invalid("the twin has no desired properties")
        self._must_get = False
        self.reported = twin.without_ours(reported) if isinstance(reported, dict) else {}
        changed = desired != self.desired
        self.desired = desired
        return changed

    def _take_patch(self, patch: Json) -> bool:
        version = patch.get("$version")
        if self._must_get or self.desired is None or version != self.desired.get("$version", 0) + 1:
            self._must_get = True
            return False
        self.desired = {**twin.merge(twin.without_ours(self.desired), twin.without_ours(patch)), "$version": version}
        return True

    def _ask(self, patch: Json | None, now: float) -> str:
        self._count += 1
        self._request, self._patch, self._asked_at = f"{self._count:x}", patch, now
        return self._request
