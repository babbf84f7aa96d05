"""Answers to costly questions, kept for whoever asks the same again."""

import hashlib
import pickle
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

MOST_ANSWERS = 5_000
Answer = TypeVar("Answer")


class Memo(Generic[Answer]):
    """Answers by a fingerprint (BLAKE2b, 32 bytes) of the whole question; safe to share between threads."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answer] = {}
        self._lock = threading.Lock()

    def answer(self, question: Any, make: Callable[[], Answer]) -> Answer:
        """The answer to an equal question before, else what `make` gives; past five thousand all are let go."""
        mark = hashlib.blake2b(pickle.dumps(question, protocol=5), digest_size=32).digest()
        with self._lock:
            if mark in self._answers:
                return self._answers[mark]
        made = make()
        with self._lock:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            self._answers[mark] = made
        return made
