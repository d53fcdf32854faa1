"""How often each key has called: one number a key, whatever its rate.

Written by hand: the libraries for this read the machine's clock by themselves (`limits` starts threads besides), wait
where a refusal with a delay is wanted, or keep a row of times for each key.
"""

from collections import OrderedDict

from turnwired.clock import Clock


class Rates:
    """Token buckets of one minute's calls each, the `most` recently used of them.

    A bucket is kept as the time at which it would be full again; one that is full is no longer worth keeping.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, per_minute: int) -> float:
        """Take a token out of a key's bucket: 0, or the seconds after which there is one."""
        now = self._clock.monotonic()
        full_at = max(now, self._full_at.get(key, 0.0)) + 60.0 / per_minute
        # A rounding error must not cost the last call of a minute.
        wait = full_at - now - 60.0
        if wait > 1e-6:
            return wait
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._most or next(iter(self._full_at.values())) <= now:
            self._full_at.popitem(last=False)
        return 0.0
