"""`headrace down`."""

from __future__ import annotations


def down() -> None:
    """Stop the local stack; its topics, tables and checkpoints stay for the next start."""
    from infra.base.settings import settings
    from infra.cli.words import Refusal, out
    from infra.stack.local import LocalStack, NotRunning

    stack = LocalStack(settings().state_dir)
    try:
        stack.down()
    except (NotRunning, TimeoutError) as error:
        raise Refusal(str(error)) from None
    out.print(f"stopped; {stack.state_dir} keeps the state for the next `headrace up`, delete it to start empty")
