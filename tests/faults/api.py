"""The service's API whose process is killed between storing a job and answering: gunicorn "tests.faults.api:wsgi()" """

from __future__ import annotations

import os
import signal

from bottle import Bottle

import app
import tasks
from jobs import Request
from store import Submitted
from submission import Options
from tests.faults.scripted import DEADLY


def wsgi() -> Bottle:
    """The API as app.wsgi makes it, around a submit that may not return."""
    submit = tasks.submit

    def submit_and_die(request: Request, options: Options) -> Submitted:
        taken = submit(request, options)
        if taken.created and request.chat_id == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return taken

    tasks.submit = submit_and_die
    return app.wsgi()
