"""What do fifty features cost in place of five, and what does a member?

The job that keeps features reads the same topic for fifty features and for five (infra/bench/features.py), with everything that it does: it
tells rows and writes checkpoints. Rates are slopes, as in infra/bench/jobs.py, after an unmeasured round.

State is the savepoint with which the job of fifty features ends: of an audience, of as many who do twice as much, and of twice as many.
Titles are few, so that members make up the state. `--world`: a file of another audience, but for their numbers.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from infra.base.settings import environment
from infra.bench import features
from infra.bench.harness import OUT, Figure, Options, ends, ground, namespace, say
from infra.bench.jobs import rate
from infra.stack import jvm
from producers.simulator.interactions import Audience, load
from schemas.catalogue import catalogue
from schemas.publish import publish
from schemas.recommendations.definition import Feature
from streams.cluster import Cluster
from streams.environment import Job, jobs
from streams.recommendations import kept
from streams.recommendations.plan import plan

FIGURES = {
    "fifty_against_five": Figure("share", 0.5, 0.3),
    "fifty_per_s": Figure("events/s"),
    "five_per_s": Figure("events/s"),
    "state_bytes_per_member": Figure("B"),
    "state_by_events": Figure("× with twice the events", None, 1.2, higher=False),
    "state_by_members": Figure("× with twice the members"),
}
TOPIC = "recommendations.interaction"
EVENTS, MEMBERS, TITLES = 600_000, 10_000, 50
PER_SECOND = 40
"""Of simulated time: hours, so that what the door remembers for an hour is not what is measured."""


def run(options: Options) -> list[dict[str, float]]:
    """One mapping per run."""
    events, of = options.events or EVENTS, load(options.world) if options.world else Audience(activity=0)
    runs = []
    with namespace("bench"), ground("kafka,registry,flink,topics", OUT / "feature_cost") as stack, environment(jvm.client_environment()):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # PyFlink sets the root logger to INFO
        fifty, five = job("fifty", features.made(1)), job("five", features.made(1)[::11])
        sizes = {}
        for name, members, many in (("all", MEMBERS, events), ("fuller", MEMBERS, 2 * events), ("more", 2 * MEMBERS, events)):
            with namespace(f"bench{name}"):
                path = stack.state_dir / f"{name}.json"
                path.write_text(of.model_copy(update={"members": members, "titles": TITLES}).model_dump_json())
                written = write(path, members, many, options.seed)
                if name == "all":
                    rate(fifty, {}, written)
                    for number in range(options.runs):
                        rates = {"five_per_s": rate(five, {}, written), "fifty_per_s": rate(fifty, {}, written)}
                        runs.append({**rates, "fifty_against_five": rates["fifty_per_s"] / rates["five_per_s"]})
                        say(f"run {number + 1}: " + ", ".join(f"{figure} {value:,.4g}" for figure, value in runs[-1].items()))
                else:
                    rate(fifty, {}, written)
                sizes[name] = state_bytes(fifty)
                say(f"{name}: {sizes[name]:,} bytes of state of {members:,} members")
    state = {
        "state_bytes_per_member": sizes["all"] / MEMBERS,
        "state_by_events": sizes["fuller"] / sizes["all"],
        "state_by_members": sizes["more"] / sizes["all"],
    }
    return [one | state for one in runs]


def job(name: str, of: list[Feature]) -> Job:
    """The job of other features than those of this checkout."""
    shipped, made = jobs()["features"], plan(of)
    text = shipped.text.replace("${streams.recommendations.kept.TOLD}", kept.view(made))
    return Job(name, text.replace("${streams.recommendations.kept.ARGUMENT}", kept.quoted(kept.argument(made, 1))), shipped.where)


def write(audience: Path, members: int, events: int, seed: int) -> int:
    """Let an audience do so much in this namespace; how many events that is."""
    publish(topic for topic in catalogue().topics.values() if topic.name.startswith("recommendations."))
    told = ["--audience", str(audience), "--seconds", str(events / PER_SECOND), "--per-second", str(PER_SECOND), "--seed", str(seed)]
    say(f"writing {events:,} events of {members:,} members")
    subprocess.run([sys.executable, "-m", "producers.simulator.interactions", *told], stdout=subprocess.DEVNULL, check=True)
    return ends([TOPIC])[TOPIC]


def state_bytes(of: Job) -> int:
    """What the job's last savepoint takes."""
    cluster = Cluster()
    return cluster.checkpoints(cluster.jobs()[of.flink_name].job_id)[-1].size_bytes
