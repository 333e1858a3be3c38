"""Read and check a call's arguments under one engine's settings, before anything else happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux2_tool.engine.host_profile import HostProfile
from flux2_tool.schema.given_arguments import as_meant
from flux2_tool.schema.manifest import Manifest
from flux2_tool.schema.validation import validate_arguments
from flux2_tool.schema.variables import check_variables, unknown_variables
from flux2_tool.settings import Settings


class GivenCalls:
    """Reads the arguments of one engine's calls.

    Args:
        manifest: The tools.
        settings: The operator's rules.
        host: Whether it adds arguments of its own.
        environ: Where the settings were read; it may have misspelt ones.
    """

    def __init__(
        self, *, manifest: Manifest, settings: Settings, host: HostProfile, environ: Mapping[str, str]
    ) -> None:
        self._manifest = manifest
        self._settings = settings
        self._with_host = host.adds_arguments
        self._unknown = unknown_variables(environ, manifest.settings)

    def known_name(self, tool: Any) -> str:
        """Return a tool's name for the log, in which nothing appears that a caller made up."""
        return tool if isinstance(tool, str) and tool in self._manifest.tools else "unknown tool"

    def read(self, tool: str, arguments: Any, *, by_model: bool) -> tuple[Any, list[str]]:
        """Return arguments as they were meant, checked, and warnings for the result.

        Raises:
            InvalidArgumentsError: They break a rule.
            ConfigurationError: They are of a new image, and a misspelt variable may have been meant to limit its cost.
        """
        arguments, warnings = as_meant(self._manifest, tool, arguments, with_host=self._with_host)
        self.check(tool, arguments, by_model=by_model)
        if self._manifest.tools[tool].models:
            check_variables(self._unknown)
        return arguments, warnings

    def check(self, tool: str, arguments: Any, *, by_model: bool) -> None:
        """Check arguments; raises InvalidArgumentsError where they break a rule."""
        settings = self._settings
        validate_arguments(
            self._manifest,
            tool,
            arguments,
            tiers=settings.tiers,
            agent_host=by_model,
            callback_hosts=settings.callback_hosts,
            safety_checker=settings.safety_checker,
        )
