"""All items, in the order of their numbers."""

from __future__ import annotations

from tests.hostile import files, kernel, network, resources, secrets

ITEMS = (*resources.ITEMS, *kernel.ITEMS, *files.ITEMS, *network.ITEMS, *secrets.ITEMS)
