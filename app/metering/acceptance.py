"""Which events of a block are taken, and what each of its requests is answered (metering spec 1.4, 1.5, 2.3)."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.expressions import EvaluationError
from app.errors import ApiError, Details, Invalid
from app.metering.definitions import CodeKey
from app.metering.evaluation import evaluated
from app.metering.events import Event, MetricDefinition
from app.metering.keys import Key

_TAKEN = {"transaction_id": ["value_already_exist"]}


@dataclass(slots=True)
class Request:
    """The events of one HTTP request, waiting to be written. `batch` says how errors name their place; `by_key` has the
    first event of each key, in order, and `again` what came after it with the same key. `known` are its keys, but for some
    that are surely new."""

    events: list[Event]
    batch: bool
    answer: asyncio.Future[list[Event]]
    by_key: dict[Key, Event] = field(init=False)
    again: list[Event] = field(init=False)
    known: Collection[Key] = field(init=False)

    def __post_init__(self) -> None:
        self.by_key = {event.key: event for event in self.events}
        self.known = self.by_key.keys()
        self.again = []
        if len(self.by_key) < len(self.events):
            self.by_key.clear()
            self.again = [event for event in self.events if self.by_key.setdefault(event.key, event) is not event]


@dataclass(slots=True)
class Accepted:
    """What one block takes from its requests: the new events in order, and each request's answer or refusal."""

    fresh: dict[Key, Event] = field(default_factory=dict)
    answers: list[tuple[Request, list[Event]]] = field(default_factory=list)
    refused: list[tuple[Request, ApiError]] = field(default_factory=list)


def decide(
    requests: Sequence[Request], seen: Mapping[Key, Event], metrics: Mapping[CodeKey, MetricDefinition]
) -> Accepted:
    """Which events are new, which are replays, and which requests are refused.

    `seen` are the events there are already, among the requests' keys; `metrics` those with an expression, among the
    requests' codes. Only new events are evaluated: a replay is its first event, whatever its expression says today.
    Requests count in the order they came: a later one is held against what the earlier ones of the block brought.
    """
    accepted = Accepted()
    for request in requests:
        if metrics or not _take_whole(request, seen, accepted):
            _take_one_by_one(request, seen, metrics, accepted)
    return accepted


def _take_whole(request: Request, seen: Mapping[Key, Event], accepted: Accepted) -> bool:
    """Take a request in which nothing must be refused, as most are. False for any other."""
    fresh, answer = request.by_key, request.events
    firsts = {key: seen[key] for key in request.known if key in seen}
    firsts |= {key: accepted.fresh[key] for key in fresh.keys() & accepted.fresh.keys()}
    if firsts or request.again:
        answered = fresh | firsts
        if not all(event.repeats(answered[event.key]) for event in (*map(fresh.__getitem__, firsts), *request.again)):
            return False
        answer = [answered[event.key] for event in answer] if request.again else list(answered.values())
        fresh = fresh.copy()
        for key in firsts:
            del fresh[key]
    accepted.fresh.update(fresh)
    accepted.answers.append((request, answer))
    return True


def _take_one_by_one(
    request: Request, seen: Mapping[Key, Event], metrics: Mapping[CodeKey, MetricDefinition], accepted: Accepted
) -> None:
    fresh: dict[Key, Event] = {}
    answer: list[Event] = []
    wrong: dict[int, Details] = {}
    for position, event in enumerate(request.events):
        key = event.key
        first = fresh.get(key) or accepted.fresh.get(key) or seen.get(key)
        if first is None:
            if metrics and (metric := metrics.get((key[0], event.code))) is not None:
                try:
                    event = evaluated(event, metric)  # noqa: PLW2901 (this is the event from here on)
                except EvaluationError as error:
                    wrong[position] = evaluation_failure(error)
                    continue
            fresh[key] = event
            answer.append(event)
        elif event.repeats(first):
            answer.append(first)
        else:
            wrong[position] = _TAKEN
    if wrong:
        accepted.refused.append((request, refusal(wrong) if request.batch else Invalid(wrong[0])))
    else:
        accepted.fresh.update(fresh)
        accepted.answers.append((request, answer))


def failures(events: Mapping[int, Event], metrics: Mapping[CodeKey, MetricDefinition]) -> dict[int, Details]:
    """Which of these events, by position, their metric's expression has no result for, and why."""
    failed: dict[int, Details] = {}
    for position, event in events.items():
        metric = metrics.get((event.key[0], event.code))
        if metric is not None:
            try:
                evaluated(event, metric)
            except EvaluationError as error:
                failed[position] = evaluation_failure(error)
    return failed


def refusal(wrong: Mapping[int, Details]) -> Invalid:
    """The error for a batch, from what is wrong with its elements by position."""
    return Invalid({str(position): wrong[position] for position in sorted(wrong)})


def evaluation_failure(error: EvaluationError) -> str:
    """What the sender of an event is told that its metric's expression has no result for."""
    return f"expression_evaluation_failed: {error}"
