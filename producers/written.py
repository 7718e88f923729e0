"""Files that people write, in YAML."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read_yaml(text: str, kind: type[T], refusal: type[ValueError]) -> T:
    """A text as a model says that it has to be. Raises `refusal`, with a line for everything that is wrong."""
    try:
        return TypeAdapter(kind).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise refusal(f"this is no YAML: {error}") from None
    except ValidationError as error:
        raise refusal("\n".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())) from None
