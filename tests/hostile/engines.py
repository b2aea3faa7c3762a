"""Docker Engines for the battery: the machine's, or one of its own that knows another runtime."""

from __future__ import annotations

USUAL = "/var/run/docker.sock"
