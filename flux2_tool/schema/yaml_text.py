"""Parse YAML strictly: plain data only, and no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """Return the data of a YAML text; only plain data types are built.

    Raises:
        yaml.YAMLError: It is not YAML, asks for other types, or has a duplicate key.
    """
    # The loader derives from SafeLoader, so this is safe_load that also rejects a duplicate key.
    return yaml.load(text, Loader=_StrictLoader)  # noqa: S506


class _StrictLoader(_SafeLoader):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f'duplicate key "{key.value}"', key.start_mark)
                seen.add(key.value)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found
