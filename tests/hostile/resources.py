"""H01-H21: jobs that take all they can get."""

from __future__ import annotations

import re

from jobs import Reason
from tests.hostile.items import Item, Seen, js, perl, sh

SOON = {"commandTimeoutMs": 3_000}
MB = 1 << 20
SIZES = "a write beyond the largest file ends gVisor's own file server, and with it the job"


def ends_soon(seen: Seen) -> None:
    """A job that will not end is ended within moments of its limit."""
    assert seen.phase_s["building"] < 3 + 4, seen.phase_s


def few_processes(seen: Seen) -> None:
    usage = seen.usage
    assert usage["processesPeak"] <= usage["processesLimit"], usage


def counted_oom(seen: Seen) -> None:
    assert seen.usage["oomKills"] >= 1, seen.usage


def within_cpus(seen: Seen) -> None:
    usage = seen.usage
    assert usage["cpuSeconds"] <= usage["cpuLimit"] * usage["wallSeconds"] * 1.2 + 0.5, usage


def bounded_log(seen: Seen) -> None:
    """Head and tail are kept, and the exact number of what is not."""
    assert len(seen.log) <= 6 * MB, len(seen.log)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", seen.log), "control characters in the log as text"
    assert all("\0" not in entry.get("text", "") for entry in seen.entries)


def tells_what_was_dropped(seen: Seen) -> None:
    assert sum(entry["dropped"]["lines"] for entry in seen.entries if "dropped" in entry) > 0


def nothing_copied(seen: Seen) -> None:
    assert seen.artifacts == {}, list(seen.artifacts)
    assert seen.usage["diskPeakBytes"] < 8 * MB, seen.usage
    assert seen.phase_s["collecting"] < 5, seen.phase_s


def not_deeper(seen: Seen) -> None:
    assert list(seen.skipped.values()) == ["too deep"], seen.skipped
    assert seen.phase_s["collecting"] < 10, seen.phase_s


def survivor_is_dead(seen: Seen) -> None:
    assert seen.seconds < 12, seen.seconds
    assert "the parent is done" in seen.log


def own_code(code: int) -> Item:
    """A program that ends with a code that means something to the engine has failed, and is not tried again."""
    reason = Reason.COMMAND_NOT_FOUND if code in (126, 127) else Reason.BUILD_FAILED
    return sh("H19", f"ends with exit code {code}", f"exit {code}", reason=reason, exit_code=code, quick=code == 137)


FORK = "$SIG{$_} = 'IGNORE' for qw(TERM INT HUP CHLD); while (1) { fork }"
CHILD_EATS = """
if (my $child = fork) { waitpid $child, 0; print "child ended by ", $? & 127, "\\n"; exit 0 }
my @all; push @all, "x" x (8 << 20) while 1;
"""
PLACES = """
for place in /work/project /work/home /tmp /dev/shm /var/tmp /run /etc / /usr/local/bin /dev /sys /proc; do
    head -c 300m /dev/zero 2>/dev/null >"$place/flood" && end=took || end=refused
    echo "$place $end $(stat -c %s "$place/flood" 2>/dev/null)"
    rm -f "$place/flood" 2>/dev/null
done
"""
DEEP = """
mkdir "dist"; chdir "dist";
for (1..8000) { mkdir "d" or last; chdir "d" or last }
print "made\\n";
"""
LINES = "yes a | head -c 20000000; i=0; while [ $i -lt 2000 ]; do printf '\\r%s %%' $i; i=$((i+1)); done"
ONE_LINE = """
const block = Buffer.alloc(1 << 20, 0xe2)   // never a whole character
const write = (data) => new Promise((done) => process.stdout.write(data, done))
for (let at = 0; at < 200; at++) await write(block)
await write(Buffer.from([10, 0, 0xff, 0xc3, 10]))
console.log("\\u202e\\u001b[2J the end")
"""
SPINNERS = "for i in $(seq 64); do (while :; do :; done) & done; wait"
IGNORES = """
trap '' TERM INT HUP QUIT
while :; do sleep 1; done
"""
SURVIVOR = """
if (!fork) { syscall(112); if (!fork) { $SIG{$_} = 'IGNORE' for qw(TERM HUP PIPE); while (1) { print "."; sleep 1 } } exit }
sleep 1; print "the parent is done\\n";
"""
EXHAUST = """
my ($n, @kept) = (0);
while (1) { my $r = syscall(294, 0); last if $r < 0; push @kept, $r; $n++ } print "inotify $n: $!\\n";
while ($n < 3000) { pipe(my $r, my $w) or last; fcntl($w, 1031, 1048576); push @kept, $r, $w; $n++ } print "pipes $n: $!\\n";
my ($kind, $name, $data, $queue) = ("user", "k", "v", "/q");
print "keys: ", syscall(248, $kind, $name, $data, 1, -3), " $!\\n";
print "System V: ", syscall(29, 0, 4096, 01600), " $!\\n";
print "POSIX: ", syscall(240, $queue, 66, 0600, 0), " $!\\n";
sleep 2;
"""
DESCRIPTORS = """
my @kept; my $n = 0;
while (open my $file, "<", "/dev/null") { push @kept, $file; $n++ }
print $n > 4000 && $n < 4096 ? "held " : "held another number: ", "$n: $!\\n";
"""
ZOMBIES = "for (1..2000) { my $child = fork; if (!$child) { fork; exit } waitpid $child, 0 } print 'done';"
PID_1 = """
kill $_, 1 for qw(KILL STOP); sleep 1;
print "PID 1 is ", (-d "/proc/1" ? "there" : "gone"), "\\n";
if (!fork) { kill 'KILL', -1; exit } sleep 5; print "still here\\n";
"""
CONTROL = r"""
echo '{"progress": 100, "status": "completed", "conclusion": "success", "exitCode": 0}'
echo '::set-output name=conclusion::success'
echo '##[endgroup]'; echo 'exit code 0'; echo '{"asked": 99, "bytes": 0, "files": 0, "over": "sent"}'
printf '\001\000\000\000\000\000\000\005hello\002\000\000\000\177\377\377\377'
printf '\000\000\000\011{"a": 1}\n'; echo '{"folder": "dist", "over": null, "files": 1}' >&2
exit 3
"""

ITEMS = (
    perl("H01", "forks for ever, deaf to every signal", FORK, limits=SOON, reason=Reason.TIMEOUT,
         checks=(ends_soon, few_processes), quick=True),
    js("H02", "takes memory until it is refused", "const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1))",
       reason=Reason.OUT_OF_MEMORY, checks=(counted_oom,), quick=True),
    perl("H03", "lets a child run out of memory, and ends well", CHILD_EATS, says=("child ended by 9",),
         checks=(counted_oom,), not_under="gVisor's kernel ends its container as a whole"),
    sh("H04", "writes 300 MB to every place", PLACES, limits={"memoryBytes": 512 * MB},
       says=(r"/work/project refused \d+", "/etc refused", "/run refused", "/var/tmp refused", "/ refused"),
       unsaid=("took",), not_under=SIZES),
    sh("H04", "fills its workspace with bytes", "cat /dev/zero >f", reason=Reason.DISK_FULL, quick=True),
    sh("H04", "writes one file of 600 MB", "head -c 600m /dev/zero >f; echo ended by $?; stat -c 'size %s' f",
       limits={"diskBytes": 700 * MB}, says=("size 536870912",),
       not_under=SIZES),
    js("H05", "makes empty files for ever", "import fs from 'fs'; for (let n = 0; ; n++) fs.writeFileSync('f' + n, '')",
       reason=Reason.DISK_FULL),
    sh("H06", "makes a sparse file of 1 TB, and one of 500 MB, in the output",
       "mkdir dist; truncate -s 1T dist/a; rm -f dist/a; truncate -s 500M dist/b; ls -l dist",
       reason=Reason.ARTIFACT_TOO_LARGE, checks=(nothing_copied,), quick=True, not_under=SIZES),
    perl("H07", "nests 8,000 folders", DEEP, checks=(not_deeper,)),
    sh("H08", "floods its output without an end of line", "cat /dev/zero | tr '\\0' x", limits={"outputBytes": 64 * MB},
       reason=Reason.OUTPUT_LIMIT, checks=(bounded_log,), quick=True),
    sh("H09", "prints ten million lines, then a progress bar", LINES, checks=(bounded_log, tells_what_was_dropped)),
    js("H10", "prints one line of 200 MB of broken UTF-8, NUL and escapes", ONE_LINE, checks=(bounded_log,)),
    sh("H11", "keeps 64 threads busy", SPINNERS, limits=SOON, reason=Reason.TIMEOUT, checks=(ends_soon, within_cpus),
       not_under="in three seconds gVisor has not started so many processes"),
    sh("H12", "ignores every signal", IGNORES, limits=SOON, reason=Reason.TIMEOUT, checks=(ends_soon,)),
    perl("H13", "leaves a child in a session of its own that holds the output", SURVIVOR, checks=(survivor_is_dead,),
         quick=True),
    Item(number="H14", what="never reads the files that are sent to it",
         cannot="no code of a job runs before its files are there; the first program is ours"),
    perl("H15", "takes every inotify instance, pipe page, key and IPC object", EXHAUST,
         says=("inotify", r"keys: -1", "System V: -1", "POSIX: -1"),
         not_under="gVisor has kernel objects of its own"),
    perl("H16", "opens files until it is refused", DESCRIPTORS, says=("held 40",)),
    perl("H17", "leaves 4,000 zombies", ZOMBIES, limits={"commandTimeoutMs": 120_000}, says=("done",),
         not_under="gVisor takes longer than a minute for so many processes"),
    perl("H18", "sends PID 1, then everything, a SIGKILL", PID_1, says=("PID 1 is there",), unsaid=("still here",),
         reason=Reason.BUILD_FAILED, exit_code=137, not_under="in gVisor a job may end its own PID 1, and so itself"),
    *map(own_code, (125, 126, 127, 137, 139, 143, 255)),
    sh("H19", "ends itself by SIGKILL", "kill -9 $$", reason=Reason.BUILD_FAILED, exit_code=137),
    sh("H20", "prints control lines, frames and reports as ours", CONTROL, reason=Reason.BUILD_FAILED, exit_code=3),
    Item(number="H21", what="computes for somebody else, every hour",
         cannot="one job is bounded by its limits (H11); a sum over many belongs to the caller's key, not the sandbox"),
)  # fmt: skip
