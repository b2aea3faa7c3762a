"""What a Vite build tells of itself, compared with what Vite says and makes."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from executor.sizes import GZIP_LEVEL
from jobs import Conclusion
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

LIMITS = {"memory_bytes": 1 << 30, "total_s": 280.0, "install_s": 200.0, "command_s": 200.0}

#: name -> what its read is: everything that is not set anywhere and has no default is missing.
READS = {
    "VITE_BARE": "import.meta.env.VITE_BARE",
    "VITE_CAST": "(import.meta.env.VITE_CAST as string)",
    "VITE_JOB": "import.meta.env.VITE_JOB",
    "VITE_FILE": "import.meta.env.VITE_FILE",
    "VITE_STAGING": "import.meta.env.VITE_STAGING",
    "VITE_LIVE": "import.meta.env.VITE_LIVE",
    "VITE_DEFAULT": "(import.meta.env.VITE_DEFAULT as string | undefined) ?? 'a default'",
}
ENV_FILES = {
    ".env": "VITE_FILE=of-a-file\n",
    ".env.staging": "VITE_STAGING=of-the-mode\n",
    ".env.production": "VITE_LIVE=of-another-mode\n",
}


def test_variables_warnings_and_sizes(bench: Bench) -> None:
    """missingEnv are the variables that are undefined in the built script; warnings and sizes are Vite's own."""
    main = "".join(f"console.log('{name}:', {read})\n" for name, read in READS.items())
    main += "console.log(eval('1'))\nimport('./other').then(console.log)\nimport './other'\n"
    package = {"scripts": {"build": "vite build --mode staging"}, "devDependencies": {"vite": "^8"}}
    files = {
        "package.json": json.dumps(package),
        "index.html": '<script type="module" src="/main.ts"></script>',
        "main.ts": main,
        "other.ts": "console.log(1)\n",
        "public/logo.png": "no text",
        **ENV_FILES,
    }
    watch = Recorder()

    result = bench.run(files, env={"VITE_JOB": "of-the-job"}, limits=LIMITS, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    (script,) = [content.decode() for path, content in watch.files.items() if path.endswith(".js")]
    undefined = re.findall(r"[`'\"](VITE_\w+):[`'\"],\s*void 0\s*\)", script)
    assert result.detail["missingEnv"] == sorted(undefined) == ["VITE_BARE", "VITE_CAST", "VITE_LIVE"]
    stderr = watch.text("stderr")
    codes = sorted(line.partition("]")[0] for line in result.detail["warnings"])
    assert codes == ["[EVAL", "[INEFFECTIVE_DYNAMIC_IMPORT"]
    assert all(f"{code[1:]}]" in stderr for code in codes)
    output = result.detail["output"]
    assert {each["path"]: each["bytes"] for each in output["files"]} == {
        path: len(content) for path, content in watch.files.items()
    }
    for each in output["files"]:
        content = watch.files[each["path"]]
        assert each.get("gzipBytes") == (
            None if each["path"] == "logo.png" else len(gzip.compress(content, GZIP_LEVEL))
        )
    assert output["brotliBytes"] < output["gzipBytes"] < output["bytes"] == result.detail["outputBytes"]
