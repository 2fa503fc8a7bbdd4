"""The model on the devices, which the requests of the page use one after the other."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from palette_vc_jax.models.networks import Networks
from palette_vc_jax.models.store import Model
from palette_vc_jax.sampling.colorize import networks_for
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.sampler import Progress

WAIT = 0.05  # seconds until a request that waits looks whether it is still wanted


class Device:
    """The model, and turns to compute with it.

    Args:
        load: returns the model with its weights; called once, when it is needed.
    """

    def __init__(self, load: Callable[[], Model]) -> None:
        self.model = functools.cache(load)
        self.lock = threading.Lock()  # one computation at a time
        self._networks: tuple[tuple[Any, ...], Networks] | None = None

    @contextmanager
    def turn(self, plan: Plan, check: Progress | None = None) -> Iterator[Networks]:
        """Yield the networks when no other computation runs.

        They stay loaded while the settings of the hardware stay.

        Args:
            plan: that is computed.
            check: called with (0, 1) while others compute; may raise to wait no longer.
        """
        while not self.lock.acquire(timeout=WAIT):
            if check is not None:
                check(0, 1)
        try:
            if check is not None:
                check(0, 1)
            yield self._on_device(plan)
        finally:
            self.lock.release()

    def _on_device(self, plan: Plan) -> Networks:
        settings = plan.settings
        key = settings.devices, settings.dtype, settings.decode_dtype, settings.leaving
        if self._networks is None or self._networks[0] != key:
            self._networks = None
            self._networks = key, networks_for(self.model(), settings, [[(0, 1)]])
        return self._networks[1]
