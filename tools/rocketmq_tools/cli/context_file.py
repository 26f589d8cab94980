"""The file that remembers clusters by name: ``$ROCKETMQ_CONTEXTS``, else ``$XDG_CONFIG_HOME/rocketmq/contexts.json``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from rocketmq_tools.errors import CommandError, ExitCode


@dataclass(slots=True)
class Contexts:
    """Name → name server addresses, and the name in use (empty: none)."""

    path: Path
    addresses: dict[str, str] = field(default_factory=dict)
    current: str = ""

    def find(self, name: str) -> str:
        """The addresses of one context; raises CommandError."""
        found = self.addresses.get(name)
        if found is None:
            raise CommandError(
                f"there is no context {name}",
                why=f"known are {', '.join(sorted(self.addresses)) or 'none'}",
                remedy="rocketmq context ls, or rocketmq context add NAME HOST:PORT",
                exit_code=ExitCode.NOT_FOUND,
            )
        return found

    def current_address(self) -> str:
        """The addresses of the context in use; empty without one."""
        return self.addresses.get(self.current, "")

    def save(self) -> None:
        """Write the file whole; it may come to hold secrets, so it is the owner's alone. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"current": self.current, "contexts": {n: {"namesrv": a} for n, a in sorted(self.addresses.items())}},
            indent=2,
        )
        draft = self.path.with_suffix(f".{os.getpid()}.new")
        draft.touch(mode=0o600)
        draft.write_text(text + "\n")
        draft.replace(self.path)


def load() -> Contexts:
    """The file's content, nothing when there is none; raises CommandError when it is damaged."""
    named = os.environ.get("ROCKETMQ_CONTEXTS")
    root = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(named) if named else root / "rocketmq" / "contexts.json"
    try:
        raw = json.loads(path.read_text())
        addresses = {str(name): str(entry["namesrv"]) for name, entry in raw["contexts"].items()}
        return Contexts(path, addresses, str(raw.get("current", "")))
    except FileNotFoundError:
        return Contexts(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            f"{path} cannot be read: {type(error).__name__} {error}", remedy="repair it, or remove it to start anew"
        ) from error
