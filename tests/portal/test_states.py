import pytest

from sanderling.portal.states import KINDS, Chip, chip


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_mean_different_things_differ_in_more_than_colour(kind: str) -> None:
    chips = KINDS[kind].values()
    for one in chips:
        assert one.label
        assert not [other for other in chips if other.label == one.label and other != one]
        assert not [other for other in chips if other.shape == one.shape and other.tone != one.tone]


def test_a_state_that_is_not_known_is_shown_by_its_own_word() -> None:
    assert chip("module", "restarting") == Chip("restarting", "calm", "ring")
    assert chip("module", "").label == "unknown"
