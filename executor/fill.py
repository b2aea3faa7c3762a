"""Runs in a container of ours: copies installed dependencies into a volume that others will read, and tells of them.

One JSON object on standard output: {"entries": [names in node_modules], "size": bytes}.
"""

import json
import shutil
import sys
from pathlib import Path

SOURCE, TARGET = map(Path, sys.argv[1:3])


def main() -> None:
    """Copy files and links as they are; anything else in the tree is an error, and the tree is not shared."""
    TARGET.parent.mkdir(mode=0o755)
    shutil.copytree(SOURCE, TARGET, symlinks=True)
    size = 0
    for path in TARGET.rglob("*"):
        found = path.lstat()
        size += found.st_size
        if not path.is_symlink():
            # Another job's user reads it; a folder, or a program, may be entered.
            path.chmod(found.st_mode & 0o755 | (0o555 if found.st_mode & 0o100 else 0o444))
    sys.stdout.write(json.dumps({"entries": sorted(each.name for each in SOURCE.iterdir()), "size": size}))


main()
