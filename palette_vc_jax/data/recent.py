"""Encoded clips that were read last, kept for the threads that read frames of them."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

Clip = list[bytes]  # the encoded pictures


class RecentClips:
    """Clips by number, the latest up to a number of bytes; threads share them.

    A clip is loaded once however many threads ask for it at a time.
    """

    def __init__(self, load: Callable[[int], Clip], limit: int):
        self._load, self._limit = load, limit
        self._lock = threading.Lock()
        self._clips: OrderedDict[int, Future] = OrderedDict()

    def __call__(self, number: int) -> Clip:
        with self._lock:
            clip = self._clips.get(number)
            if is_new := clip is None:
                clip = self._clips[number] = Future()
            self._clips.move_to_end(number)
        if is_new:
            try:
                clip.set_result(self._load(number))
            except BaseException as error:
                clip.set_exception(error)
            with self._lock:
                self._trim()
        return clip.result()

    def _trim(self) -> None:
        """Drop clips that failed, and the oldest while they take more than the limit."""
        loaded = {n: clip for n, clip in self._clips.items() if clip.done()}
        sizes = {}
        for number, clip in loaded.items():
            if clip.exception():
                del self._clips[number]
            else:
                sizes[number] = sum(map(len, clip.result()))
        for number in list(sizes)[:-1]:
            if sum(sizes.values()) <= self._limit:
                break
            del self._clips[number], sizes[number]
