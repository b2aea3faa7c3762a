"""Questions that come while one is being answered are asked together, as the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import redis

from errors import StoreUnavailable

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Asker(Generic[Question, Answer]):
    """A thread with its question; `turn` is released once there is an answer or an error, or when it is to ask."""

    question: Question
    turn: threading.Lock = field(default_factory=threading.Lock)
    answer: list[Answer] = field(default_factory=list)
    error: Exception | None = None


class Together(Generic[Question, Answer]):
    """One call at a time, for all threads that have a question then; nobody waits for others to come.

    While one thread's call is under way, others' questions gather; the first of them then asks all of these with one
    call. So the busier the process, the fewer calls for each question, and a single one is asked at once.
    """

    def __init__(self, ask: Callable[[Sequence[Question]], Sequence[Answer]], most: int) -> None:
        """`ask` answers up to `most` questions, in order. Answering one again must change nothing."""
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._is_asking = False
        self._gathered: deque[_Asker[Question, Answer]] = deque()

    def __call__(self, question: Question) -> Answer:
        """The answer. Raises StoreUnavailable: `ask` did, for this question or for all that were asked together."""
        me = _Asker[Question, Answer](question)
        me.turn.acquire()
        with self._lock:
            self._gathered.append(me)
            must_wait, self._is_asking = self._is_asking, True
        if must_wait:
            me.turn.acquire()
        if not (me.answer or me.error):
            self._ask_for_all()
        if me.error:
            raise StoreUnavailable(str(me.error)) from me.error
        return me.answer[0]

    def _ask_for_all(self) -> None:
        """Ask what has gathered, its own question first; then let the next one ask what gathered meanwhile."""
        with self._lock:
            now = [self._gathered.popleft() for _ in range(min(self._most, len(self._gathered)))]
        away = self._answer(now)
        with self._lock:
            if away:  # who waited in vain is told so now, and not after another wait of his own
                now += self._gathered
                self._gathered.clear()
            following = self._gathered[0] if self._gathered else None
            self._is_asking = following is not None
        for each in now[1:]:
            each.error = each.error or away
            each.turn.release()
        if following:
            following.turn.release()

    def _answer(self, askers: Sequence[_Asker[Question, Answer]]) -> Exception | None:
        """Get the answers, or each its error. Returns the error if Redis cannot be asked at all."""
        try:
            answers = self._ask([asker.question for asker in askers])
        except Exception as error:  # noqa: BLE001  (whatever it is, nobody may wait for ever)
            if len(askers) == 1 or not isinstance(error.__cause__, redis.ResponseError):
                for asker in askers:
                    asker.error = error
                return None if isinstance(error.__cause__, redis.ResponseError) else error
            for asker in askers:  # something is wrong with one of them; the others are not to suffer for it
                self._answer([asker])
            return None
        for asker, answer in zip(askers, answers, strict=True):
            asker.answer.append(answer)
        return None
