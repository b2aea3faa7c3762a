"""How gunicorn serves the API: gunicorn -c gunicorn.conf.py "app:wsgi()". Each number with its reason."""

import faulthandler
import gc
import resource
import signal

import logs
from api.reload import prepare
from api.server import ApiWorker
from config import load_or_exit

settings = load_or_exit()

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
#: A restart finds the port free although old connections linger; a burst of this many waits instead of being refused.
backlog = 2048

#: One process more than it needs: parsing holds Python's lock, and one that is killed leaves the other answering.
workers = 2
#: Requests at once in each process. A thread waits for Redis (0.2 ms), for a long body (a quarter of them at most, see
#: server.py) or for the reader of a download (32 at most, see outflow.py); the rest is there for everything else. They
#: are made on demand. Those who wait for the end of a job come on top.
threads = 64 + settings.max_waiting
#: Connections a process holds: served, arriving and idle ones, and event streams. What arrives is held up to
#: MAX_GATHERED_BYTES in all, see server.py.
worker_connections = 2000 + settings.max_streams
#: Each of them is an open file; the usual bound of 1,024 is for programs that never thought about it.
open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(open_files, 2 * worker_connections), open_files))
#: Idle connections stay this long (s): longer than the 2 s between a client's polls, so polling opens no new ones.
keepalive = 30
#: A process whose main loop does not answer for this long (s) is replaced. Requests are not what is timed here.
timeout = 30
#: What a stopping process gives running requests (s); answers take milliseconds, only downloads take longer.
graceful_timeout = 15
#: Heartbeat files in memory: on a slow disk a blocked write would look like a dead process.
worker_tmp_dir = "/dev/shm"  # noqa: S108  (gunicorn makes a file of its own there)

#: Head of a request: no address here is longer than 1,200 characters unless an artifact's path is, and clients send
#: about ten headers. Smaller bounds mean less memory that a stranger can make us hold.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

#: Requests are logged by app.py, one line each, escaped; all lines go to standard error.
accesslog = None
loglevel = settings.log_level.lower()
logconfig_dict = logs.configuration(settings.log_level, settings.log_format, settings.secret_values)
#: A socket that takes commands at run time, which nobody here needs.
control_socket_disable = True

#: Threads, with a deadline for the arrival of requests (see server.py).
worker_class = ApiWorker
#: At SIGHUP what is there now is loaded by a process of its own first.
when_ready = prepare


#: So many more objects are made than given back before garbage is searched for: those of a few dozen requests at once.
GARBAGE_AFTER = 20_000


def post_worker_init(worker: ApiWorker) -> None:
    """At SIGUSR1 a process prints the stacks of all its threads, beside opening its logs anew as gunicorn has it.

    Searching for garbage took a twelfth of the time: what is loaded stays, and a request leaves next to none.
    """
    faulthandler.register(signal.SIGUSR1, chain=True)
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
