# Runs a Python module under coverage, writes what was covered to the file named first, and ends as the module did.
report=$1
shift
export COVERAGE_FILE="${TMPDIR:-/tmp}/coverage-$$"
python -m coverage run "$@"
code=$?
# A project may ask for a file of data for each process.
python -m coverage combine --quiet "$COVERAGE_FILE".* >/dev/null 2>&1
python -m coverage json --quiet --ignore-errors --fail-under=0 -o "$report"
exit $code
