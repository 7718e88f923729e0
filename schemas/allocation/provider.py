"""The OpenFeature side: applications ask through the standard interface, the engine answers from its table.

After the OpenFeature specification, section 2 (Provider), and the Python SDK 0.10 (`openfeature-sdk`), which is imported when a provider is
made: nothing else here needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import import_module
from typing import Any

from schemas.allocation.engine import Context, Decision, Exposure, Table

KINDS: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "string": (str,),
    "integer": (int,),
    "float": (float, int),
    "object": (dict, list),
}
NAME = "headrace"

Resolution = dict[str, Any]
"""The fields of the SDK's FlagResolutionDetails; reason and error_code by their names."""


def resolve(decision: Decision, kind: str, default: Any) -> Resolution:
    """A decision as OpenFeature says it. `default` is given for a flag that is unknown, off, or of another kind. Pure."""
    if decision.reason == "unknown":
        return _failed(default, "FLAG_NOT_FOUND", f"there is no flag {decision.flag!r}")
    if decision.reason == "cycle":
        return _failed(default, "GENERAL", f"flag {decision.flag!r} requires itself")
    if decision.value is None:
        return {"value": default, "reason": "DISABLED"}
    if not isinstance(decision.value, KINDS[kind]) or (kind != "boolean" and isinstance(decision.value, bool)):
        return _failed(default, "TYPE_MISMATCH", f"flag {decision.flag!r} gives {decision.value!r}, which is no {kind}")
    exposure = decision.exposure
    told = {"rule": decision.rule} if decision.rule else {}
    value: Any = decision.value
    found = {"value": float(value) if kind == "float" else value, "flag_metadata": told}
    if exposure is None:
        return found | {"reason": "DEFAULT" if decision.reason == "default" else "TARGETING_MATCH"}
    reason = "SPLIT" if exposure.hashed else "TARGETING_MATCH"
    return found | {"reason": reason, "variant": exposure.key, "flag_metadata": {**told, "experiment": exposure.experiment}}


def provider(
    table: Callable[[], Table],
    unit: str,
    clock: Callable[[], int],
    exposed: Callable[[Exposure], None] = lambda _: None,
    assignments: Callable[[str], Mapping[str, Mapping[str, str]]] | None = None,
) -> Any:
    """A provider for `openfeature.api.set_provider`.

    `table` gives the table that stands (a room folds it, so this never waits), `unit` is the attribute that the targeting key becomes,
    `clock` the time in milliseconds since 1970; `exposed` is told of every exposure, `assignments` gives those that a targeting key has.
    Raises ImportError, with the command that mends it, where the SDK is not installed.
    """
    try:
        sdk, details, errors = map(import_module, ("openfeature.provider", "openfeature.flag_evaluation", "openfeature.exception"))
    except ImportError:
        raise ImportError("the OpenFeature SDK is not installed: run `pip install openfeature-sdk`") from None

    def answer(kind: str) -> Callable[..., Any]:
        def resolved(_: Any, flag_key: str, default_value: Any, evaluation_context: Any = None) -> Any:
            key = getattr(evaluation_context, "targeting_key", None)
            attributes = {name: _plain(value) for name, value in (getattr(evaluation_context, "attributes", None) or {}).items()}
            if key is not None:
                attributes[unit] = key
            kept = None if assignments is None else assignments(key or "")
            decision = table().decide(flag_key, Context(attributes, at_ms=clock(), assignments=kept))
            for exposure in decision.exposures:
                exposed(exposure)
            said = resolve(decision, kind, default_value)
            if "error_code" in said:
                said["error_code"] = errors.ErrorCode[said["error_code"]]
            return details.FlagResolutionDetails(**(said | {"reason": details.Reason[said["reason"]]}))

        return resolved

    members: dict[str, Any] = {f"resolve_{kind}_details": answer(kind) for kind in KINDS}
    members |= {"get_metadata": lambda _: sdk.Metadata(name=NAME), "get_provider_hooks": lambda _: []}
    return type("HeadraceProvider", (sdk.AbstractProvider,), members)()


def _failed(default: Any, code: str, message: str) -> Resolution:
    return {"value": default, "reason": "ERROR", "error_code": code, "error_message": message}


def _plain(value: Any) -> Any:
    """An attribute as JSON has it: OpenFeature's may be times, tuples and mappings of any kind."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
