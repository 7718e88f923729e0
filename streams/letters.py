"""Dead letters: which are mended, and which of those have been sent again?

reads     observability.letter_step to its end, whenever it is asked
writes    observability.letter_step; mended payloads to the door `<topic>.in`, or to the topic itself where it has none
key       letter_id; a mended payload goes with the key that its event says
time      none: a mended event keeps its event_time and its event_id
exactly   a payload and the step that says so are one Kafka transaction; whoever replays takes the transactional id over, which ends
          an unfinished run before, and only then reads what has been sent. So no letter is sent twice, however often one replays
state     the steps

Before a payload is taken, and again before it is sent, it is inspected as the guard inspects what comes to the door.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TopicPartition

from infra.base import kafka
from infra.base.clock import Clock, WallClock
from infra.base.registry import RegistryClient
from infra.base.settings import settings
from schemas.catalogue import Topic, catalogue
from schemas.codec import HEADER, BadFraming, BadPayload, Decoder, Encoder, InvalidEvent
from schemas.examples import from_json
from streams.guard import Inspector, Refused

STEPS = "observability.letter_step"
NAME = "dead-letters"
TIMEOUT_MS = 60_000
"""What an unfinished replay may hold readers of the doors up for."""
HEADER_NAME = "dead-letter"
"""Kafka header of what is sent again; its value is the letter's id."""


class CannotMend(Exception):
    """A letter stays as it is; the message says which, why, and what would help."""


@dataclass(frozen=True)
class Letter:
    """A dead letter: its event_id, the topic it was meant for (declared, without `.in`), its bytes as they came."""

    letter_id: str
    topic: str
    payload: bytes


@dataclass(frozen=True)
class Repair:
    """What is done to a payload: an `event` put in its place; or its own event with fields `put` and `drop`ped; or only `reframe`d.

    `reframe`: the bytes are right and only the schema id in front of them is wrong, as after a registry was lost.
    """

    put: Mapping[str, Any] = field(default_factory=dict)
    drop: Sequence[str] = ()
    event: Mapping[str, Any] | None = None
    reframe: bool = False

    def __str__(self) -> str:
        told = [f"set {name}={json.dumps(value)}" for name, value in self.put.items()] + [f"drop {name}" for name in self.drop]
        return ", ".join([*(["edited"] if self.event is not None else []), *(["reframe"] if self.reframe else []), *told])

    def __call__(self, topic: Topic, payload: bytes, encode: Encoder, decode: Decoder) -> bytes:
        """The mended bytes. Raises CannotMend."""
        if self.reframe:
            payload = encode.header + payload[HEADER.size :]
        try:
            record = from_json(topic.event, self.event) if self.event is not None else decode(payload)
            changed = {**record, **from_json(topic.event, self.put)}
            return encode({name: value for name, value in changed.items() if name not in self.drop})
        except (BadFraming, BadPayload) as error:
            raise CannotMend(f"its bytes are no event ({error}): give one with --payload FILE.json") from None
        except InvalidEvent as error:
            raise CannotMend(str(error)) from None


@dataclass(frozen=True)
class Sent:
    """What a replay did with one mended letter: where it went, or in `refused` why it did not."""

    letter_id: str
    topic: str
    refused: str = ""


class Desk:
    """Where letters are mended and sent from. Blocks; raises KafkaException, RegistryUnavailable, RegistryError."""

    def __init__(self, registry: RegistryClient, clock: Clock | None = None) -> None:
        self._registry = registry
        self._clock = clock or WallClock()
        self._inspectors: dict[str, Inspector] = {}
        self._encoders: dict[str, Encoder] = {}

    def steps(self) -> list[dict[str, Any]]:
        """Every step so far, in order."""
        name = settings().topic(STEPS)
        decode = Decoder(self._registry.schema, catalogue().topic(STEPS).event)
        reader = kafka.consumer(NAME, enable_partition_eof=True, fetch_wait_max_ms=20)
        found: list[dict[str, Any]] = []
        try:
            partitions = reader.list_topics(name, timeout=30).topics[name].partitions
            reader.assign([TopicPartition(name, partition, 0) for partition in partitions])
            ended = 0
            while ended < len(partitions):
                for message in reader.consume(1_000, 0.1):
                    if message.error() is not None:
                        ended += 1
                    else:
                        found.append(decode(message.value()))
        finally:
            reader.close()
        return [step for step in found if not step["marker"]]

    def repair(self, letters: Iterable[Letter], repair: Repair) -> dict[str, str]:
        """Mend letters; returns letter_id → why not, empty where it was mended. One that has been sent is not mended again."""
        steps = self.steps()
        gone = {step["letter_id"] for step in steps if step["step"] == "replayed"}
        verdicts: dict[str, str] = {}
        producer = kafka.producer()
        for letter in letters:
            nth = 1 + sum(step["letter_id"] == letter.letter_id for step in steps)
            try:
                if letter.letter_id in gone:
                    raise CannotMend("it has been sent again already; if that was refused too, it is a letter of its own")
                payload = self._mended(letter, repair)
            except CannotMend as error:
                verdicts[letter.letter_id] = str(error)
                continue
            step = self._step(letter.letter_id, "repaired", f"repaired-{letter.letter_id}-{nth}", letter.topic)
            step |= {"how": str(repair), "payload": payload}
            producer.produce(settings().topic(STEPS), self._encoder(STEPS)(step), key=letter.letter_id.encode())
            verdicts[letter.letter_id] = ""
        if producer.flush(30):
            raise TimeoutError("Kafka did not acknowledge every repair within 30 s: run it again, the newest repair counts")
        return verdicts

    def replay(self, wanted: Callable[[str], bool] = lambda letter_id: True) -> list[Sent]:
        """Send what is mended and has not been sent, all of it or nothing."""
        producer = kafka.producer(
            transactional_id=settings().topic(NAME), transaction_timeout_ms=TIMEOUT_MS, delivery_timeout_ms=TIMEOUT_MS
        )
        producer.init_transactions(30)
        steps = self.steps()
        gone = {step["letter_id"] for step in steps if step["step"] == "replayed"}
        mended = {step["letter_id"]: step for step in steps if step["step"] == "repaired"}
        outcome: list[Sent] = []
        producer.begin_transaction()
        for letter_id, step in mended.items():
            if letter_id in gone or not wanted(letter_id):
                continue
            topic = catalogue().topic(step["topic"])
            try:
                self._inspector(topic)(step["payload"], self._clock.now_ms())
            except Refused as refusal:
                outcome.append(Sent(letter_id, topic.name, str(refusal)))
                continue
            sent_to = topic.door_name if topic.door else topic.name
            headers = [(HEADER_NAME, letter_id.encode())]
            producer.produce(settings().topic(sent_to), step["payload"], key=self._key(topic, step), headers=headers)
            said = self._step(letter_id, "replayed", f"replayed-{letter_id}", topic.name) | {"how": step["how"], "sent_to": sent_to}
            producer.produce(settings().topic(STEPS), self._encoder(STEPS)(said), key=letter_id.encode())
            outcome.append(Sent(letter_id, sent_to))
        producer.commit_transaction(60)
        return outcome

    def _mended(self, letter: Letter, repair: Repair) -> bytes:
        topic = catalogue().topic(letter.topic)
        payload = repair(topic, letter.payload, self._encoder(topic.name), Decoder(self._registry.schema, topic.event))
        try:
            self._inspector(topic)(payload, self._clock.now_ms())
        except Refused as refusal:
            raise CannotMend(f"it would be refused again ({refusal.reason}): {refusal}") from None
        return payload

    def _key(self, topic: Topic, step: Mapping[str, Any]) -> bytes:
        """The key that the event itself says: a repair may have changed it, and collector and loader keep none."""
        return str(Decoder(self._registry.schema, topic.event)(step["payload"])[topic.key]).encode()

    def _step(self, letter_id: str, step: str, event_id: str, topic: str) -> dict[str, Any]:
        envelope = {"event_id": event_id, "event_time": self._clock.now_ms(), "producer_id": NAME, "epoch": 0, "seq": -1}
        return {**envelope, "letter_id": letter_id, "step": step, "who": getpass.getuser(), "how": "", "topic": topic, "payload": b""}

    def _inspector(self, topic: Topic) -> Inspector:
        return self._inspectors.setdefault(topic.name, Inspector(topic, self._registry))

    def _encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            topic = catalogue().topic(name)
            self._encoders[name] = Encoder(topic.event, self._registry.lookup(settings().topic(topic.name) + "-value", topic.event.schema))
        return self._encoders[name]
