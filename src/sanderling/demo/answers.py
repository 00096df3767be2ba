"""What the device answered, and whether it is what the model says: no I/O here."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from sanderling.sdk.messages import Message

ANSWER_OUTPUT = "amlOutput"
RUN, PHASE, DIGIT = "run", "phase", "digit"


@dataclass(frozen=True, slots=True)
class Answers:
    """One scoring of the held-out digits: predictions by the digit's index, and seconds by the same."""

    way: str
    predictions: Mapping[int, int]
    seconds: Mapping[int, float]

    def disagreements(self, expected: Sequence[int]) -> list[int]:
        """The indexes whose prediction is not the model's own."""
        return [index for index, prediction in self.predictions.items() if prediction != expected[index]]

    @property
    def median_ms(self) -> float:
        return 1000 * median(self.seconds.values())

    @property
    def p95_ms(self) -> float:
        values = list(self.seconds.values())
        return 1000 * (quantiles(values, n=20)[-1] if len(values) > 1 else values[0])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The answers of one phase as they arrived at the server.

    by_digit: the first message of each digit's index. doubled: how many came more than once.
    faults: messages that are no answer, as the script's errors.
    """

    by_digit: Mapping[int, Message]
    doubled: int
    faults: Sequence[Message]

    def missing(self, count: int) -> int:
        """How many of *count* digits have no answer."""
        return count - len(self.by_digit)

    def answers(self, way: str, handed_over: Sequence[float]) -> Answers:
        """As predictions, with the seconds from the sensor to the server's store."""
        return Answers(
            way,
            {index: prediction_in(message) for index, message in self.by_digit.items()},
            {
                index: message.enqueued_time.timestamp() - handed_over[index]
                for index, message in self.by_digit.items()
                if message.enqueued_time is not None
            },
        )


def arrivals(messages: Sequence[Message], run: str, phase: str) -> Arrivals:
    """Sort the messages of one phase of one run; all others are left out."""
    mine = [m for m in messages if m.properties.get(RUN) == run and m.properties.get(PHASE) == phase]
    good = [m for m in mine if m.output == ANSWER_OUTPUT and m.properties.get(DIGIT, "").isdecimal()]
    by_digit: dict[int, Message] = {}
    for message in good:
        by_digit.setdefault(int(message.properties[DIGIT]), message)
    counts = Counter(int(message.properties[DIGIT]) for message in good)
    return Arrivals(by_digit, sum(n > 1 for n in counts.values()), [m for m in mine if m not in good])


def prediction_in(message: Message) -> int:
    """The digit in an answer's body, `[3]`; -1 when it is something else."""
    body = message.body
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], int):
        return body[0]
    return -1
