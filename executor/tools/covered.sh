# Runs a Python module under coverage, writes what was covered to the file named first, and ends as the module did.
report=$1
shift
export COVERAGE_FILE="${TMPDIR:-/tmp}/coverage-$$"
python -m coverage run "$@"
code=$?
set -- "$COVERAGE_FILE".*
# A project may ask for a file of data for each process.
[ -e "$1" ] && python -m coverage combine --quiet "$@" >/dev/null
python -m coverage json --quiet --ignore-errors --fail-under=0 -o "$report"
exit $code
