"""One definition of adaptation: the page's evaluator says of every state what Python's says."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from math import isclose
from pathlib import Path
from typing import Any

import pytest

import edge.board
from producers.abr.policy import FILE
from tests.board.abr_states import Case, cases, documents
from tests.board.browser import browser, page
from tests.kit import json_of

SEED, STATES = 7, 10_000
SCRIPT = Path(edge.board.__file__).with_name("static") / "abr.js"
RELATIVE = 1e-9
ANSWER = """(abr, { policies, cases }) => {
  const read = policies.map(abr.read);
  return cases.map(({ policy, state, prior, penalty_s }) => {
    try {
      return abr.explain(read[policy], state, prior, penalty_s);
    } catch (error) {
      return { refused: error.name };
    }
  });
}"""

IN_CHROMIUM = f"""async (texts) => {{
  const load = (text) => import(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})));
  const [abr, given] = await Promise.all(texts.map(load));
  return ({ANSWER})(abr, given.default);
}}"""


def evaluated(given: str, folder: Path) -> list[dict[str, Any]]:
    """What the page's evaluator answers to a JavaScript literal of policies and cases: by node, or where there is none by Chromium."""
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    module = f"export default {given};"
    if node is None:
        with browser() as launched, page(launched) as tab:
            return list(tab.evaluate(IN_CHROMIUM, [SCRIPT.read_text(), module]))
    (folder / "given.mjs").write_text(module)
    (folder / "abr.mjs").write_text(SCRIPT.read_text())
    (folder / "answer.mjs").write_text(
        f"import * as abr from './abr.mjs'; import given from './given.mjs'; console.log(JSON.stringify(({ANSWER})(abr, given)));"
    )
    return list(json_of([node, str(folder / "answer.mjs")]))


def agree(ours: tuple[float, ...], theirs: list[float]) -> bool:
    """Whether two lists of worths are the same to nine digits of the largest."""
    most = max(map(abs, ours))
    return len(ours) == len(theirs) and all(
        isclose(a, b, rel_tol=RELATIVE, abs_tol=RELATIVE * most) for a, b in zip(ours, theirs, strict=True)
    )


def differs(case: Case, answer: dict[str, Any]) -> str:
    """In what an answer is another than Python's; empty where it is the same."""
    said = case.said
    if said is None or "refused" in answer:
        return "" if said is None and answer.get("refused") == "BadState" else "refused"
    if (said.level, said.by) != (answer["level"], answer["by"]):
        return "decision"
    parts = ("worth", "plan", "throughput_kbps")
    return next((part for part in parts if not agree(getattr(said, part), answer[part])), "")


def test_every_decision_is_the_same_in_javascript(tmp_path: Path) -> None:
    recorded = list(cases(STATES, SEED))
    given = json.dumps({"policies": documents(SEED), "cases": [case.told() for case in recorded]})
    answers = evaluated(given, tmp_path)
    assert len(answers) == len(recorded) == STATES
    different = [(part, case, answer) for case, answer in zip(recorded, answers, strict=True) if (part := differs(case, answer))]
    assert not different, f"{len(different)} of {STATES}, {Counter(part for part, *_ in different)}: {different[0]}"
    kinds = Counter(case.said.by if case.said else "refused" for case in recorded)
    assert all(kinds[kind] > 100 for kind in ("start", "plan", "network and plan", "refused")), kinds
    levels = Counter(case.said.level for case in recorded if case.said)
    assert all(levels[level] > 100 for level in range(6)), levels


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    """Nearly every worth is another where the policies differ by a thousandth in one number; sessions that are told how much they vary
    do not take theirs from it.
    """
    recorded = [case for case in cases(300, SEED) if case.said and case.said.by != "start" and case.prior is None]
    policies = documents(SEED)
    for policy in policies:
        policy["plan"]["sigma"] *= 1.001
    answers = evaluated(json.dumps({"policies": policies, "cases": [case.told() for case in recorded]}), tmp_path)
    assert sum(bool(differs(case, answer)) for case, answer in zip(recorded, answers, strict=True)) > 0.9 * len(recorded)


NETWORK = {"ladder_kbps": [300], "segment_s": 4, "share": 1, "cut": 1, "caution": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version 2; this evaluator reads 1"),
        ({"plan": {}}, "plan.gain: undefined is no finite number"),
        ({"reward": None}, "reward.rebuffer: undefined is no finite number"),
        ({"network": {**NETWORK, "layers": []}}, "network.layers: there is none"),
    ],
)
def test_what_is_no_policy_is_refused_in_words(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    policy = {**json.loads(FILE.read_text()), **change}
    with pytest.raises(AssertionError, match=f"BadPolicy: {said}"):
        evaluated(json.dumps({"policies": [policy], "cases": []}), tmp_path)
