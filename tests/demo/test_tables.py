from sanderling.demo.tables import picture


def test_a_digit_is_drawn_from_blank_to_full() -> None:
    lines = picture([0.0] * 8 + [16.0] * 8 + [0.0] * 48).splitlines()
    assert lines[0] == ""
    assert lines[1] == "@" * 16
