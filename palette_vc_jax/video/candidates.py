"""Choose among transitions that were found over the same frames, while a film is read."""

from typing import Generic, Protocol, TypeVar

TransitionT = TypeVar("TransitionT", bound="Transition")


class Transition(Protocol):
    """Frames `first` to `last` that show two shots at once."""

    @property
    def first(self) -> int: ...

    @property
    def last(self) -> int: ...


class Candidates(Generic[TransitionT]):
    """Keep the best of the candidates that overlap; `kept` holds them in order."""

    def __init__(self) -> None:
        self.kept: list[TransitionT] = []
        self._best: tuple[float, TransitionT] | None = None

    def beats(self, first: int, score: float) -> bool:
        """Return whether a candidate from frame `first` on is apart from the best, or better.

        Lower scores are better. A candidate that overlaps one that was kept never wins.
        """
        if self.kept and first <= self.kept[-1].last + 1:
            return False
        return self._best is None or first > self._best[1].last + 1 or score < self._best[0]

    def add(self, found: TransitionT, score: float) -> None:
        """Take a candidate that beats the best; one that is apart from it leaves it kept."""
        self.settle(found.first)
        self._best = score, found

    def settle(self, first: int) -> None:
        """Keep the best if no candidate from frame `first` on can overlap it."""
        if self._best is not None and first > self._best[1].last + 1:
            self.kept.append(self._best[1])
            self._best = None

    def finish(self) -> list[TransitionT]:
        """Return all that were kept, after the last frame."""
        if self._best is not None:
            self.kept.append(self._best[1])
            self._best = None
        return self.kept
