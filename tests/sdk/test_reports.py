from typing import Any

import pytest

from sanderling.sdk.reports import activity_time, desired_status_in, module_states_in

TWIN: dict[str, Any] = {
    "desired": {
        "$version": 3,
        "systemModules": {"edgeHub": {"status": "running", "settings": {"image": "hub"}}},
        "modules": {
            "new": {"status": "running", "settings": {"image": "r/new:1"}},
            "old": {"settings": {"image": "r/old:2"}},
        },
    },
    "reported": {
        "lastDesiredVersion": 2,
        "lastDesiredStatus": {"code": 500, "description": "cannot"},
        "modules": {
            "old": {
                "runtimeStatus": "backoff",
                "exitCode": 1,
                "statusDescription": "it ended",
                "restartCount": 4,
                "lastStartTimeUtc": "2026-05-01T10:00:00Z",
                "settings": {"image": "r/old:1", "imageHash": "sha256:abc"},
            },
            "gone": {"runtimeStatus": "stopped", "lastStartTimeUtc": "0001-01-01T00:00:00Z"},
        },
    },
}


def test_modules_are_what_is_wanted_beside_what_is_reported() -> None:
    hub, gone, new, old = module_states_in(TWIN)
    assert (hub.name, hub.is_system, hub.status) == ("edgeHub", True, None)
    assert (gone.desired_status, gone.status, gone.started_time) == (None, "stopped", None)
    assert (new.desired_status, new.status, new.image) == ("running", None, "r/new:1")
    assert (old.image, old.desired_image, old.image_digest) == ("r/old:1", "r/old:2", "sha256:abc")
    assert (old.status, old.exit_code, old.restart_count, old.description) == ("backoff", 1, 4, "it ended")


def test_the_verdict_is_of_the_version_it_speaks_of() -> None:
    verdict = desired_status_in(TWIN)
    assert (verdict.version, verdict.code, verdict.description) == (2, 500, "cannot")
    assert desired_status_in({}).version == 0


ODD = [None, True, 7, -1.5, "", "text", [], [1], {}, {"a": {"b": []}}]


@pytest.mark.parametrize("odd", ODD)
def test_what_a_device_should_not_report_counts_as_not_reported(odd: Any) -> None:
    fields = ("runtimeStatus", "exitCode", "statusDescription", "restartCount", "lastStartTimeUtc", "settings")
    for twin in (
        {"desired": odd, "reported": odd},
        {
            "desired": {"modules": odd},
            "reported": {"modules": odd, "lastDesiredStatus": odd, "lastDesiredVersion": odd},
        },
        {"desired": {"modules": {"m": odd}}, "reported": {"modules": {"m": odd}}},
        {"reported": {"modules": {"m": dict.fromkeys(fields, odd)}, "lastDesiredStatus": {"code": odd}}},
        {"reported": {"modules": {"m": {"settings": {"image": odd, "imageHash": odd}}}}},
    ):
        for state in module_states_in(twin):
            state.to_json()
            assert isinstance(state.image, str)
            assert isinstance(state.description, str)
            assert isinstance(state.restart_count, int)
        assert isinstance(desired_status_in(twin).code, int)


def test_a_module_is_wanted_although_its_report_is_odd() -> None:
    twin = {"desired": {"modules": {"m": {"settings": {"image": "r/m:1"}}}}, "reported": {"modules": ["m"]}}
    (state,) = module_states_in(twin)
    assert (state.name, state.desired_image, state.status) == ("m", "r/m:1", None)


@pytest.mark.parametrize("value", [None, 5, "", "yesterday", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_never(value: object) -> None:
    assert activity_time(value) is None


def test_a_time_without_a_zone_is_utc() -> None:
    found = activity_time("2026-05-01T10:00:00")
    assert found is not None
    assert found.isoformat() == "2026-05-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"doneBytes": 1, "totalBytes": 4}, (1, 4)),
        ({"doneBytes": 5, "totalBytes": 4}, None),
        ({"doneBytes": -1, "totalBytes": 4}, None),
        ({"doneBytes": "1", "totalBytes": 4}, None),
        ({"doneBytes": True, "totalBytes": 4}, None),
        (["nonsense"], None),
        (None, None),
    ],
)
def test_only_what_can_be_a_pull_is_one(reported: object, expected: tuple[int, int] | None) -> None:
    (state,) = module_states_in({"reported": {"modules": {"m": {"pull": reported}}}})
    assert state.pulled == expected


@pytest.mark.parametrize(
    ("status", "description", "summary"),
    [
        (None, "", ""),
        ("running", "running", "running"),
        ("running", "started, does not answer yet", "running: started, does not answer yet"),
        ("unknown", "pulling r/a:1", "pulling r/a:1"),
        ("unknown", "", "unknown"),
        ("backoff", "", "backoff"),
    ],
)
def test_the_summary_says_nothing_twice(status: str | None, description: str, summary: str) -> None:
    (state,) = module_states_in(
        {"reported": {"modules": {"m": {"runtimeStatus": status, "statusDescription": description}}}}
    )
    assert state.summary == summary
