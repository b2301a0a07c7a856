"""What a build on the command line takes from docker's settings and the machine, beside its flags.

Source: docker/buildx:build/opt.go, build/git.go; docker/cli:cli/config/configfile/file.go (ParseProxyConfig).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit_session.docker_directory import docker_directory
from buildkit_session.request.attributes import proxy_build_args
from buildkit_session.request.vcs import vcs_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.cli.build import BuildOptions

__all__ = ["BuildSettings", "read_settings"]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Attributes: ``proxies``, build arguments; ``frontend_attrs``, what the daemon is told of the git work tree."""

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    frontend_attrs: Mapping[str, str] = field(default_factory=dict)


def read_settings(options: BuildOptions, environ: Mapping[str, str] = os.environ) -> BuildSettings:
    """Look at docker's ``config.json`` and at the context's git work tree. Blocks: call it in a thread."""
    host = options.address or environ.get("DOCKER_HOST") or "default"
    proxies = proxy_build_args(_config(environ), host)
    if not Path(options.context).is_dir():
        return BuildSettings(proxies)
    file = None if options.file is None or options.file == "-" or "://" in options.file else options.file
    return BuildSettings(proxies, vcs_attributes(options.context, environ=environ, dockerfile=file))


def _config(environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads((docker_directory(environ) / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}  # who looks for the daemon says what is wrong with the file
    return config if isinstance(config, dict) else {}
