"""The order of one dataset of a mixture: its lanes, in stages where t changes with the step.

A stage is an order of its own. It begins with a new epoch, wherever the one before stands, so that
an epoch has one t; epochs go on counting. All of it follows from the settings and the dataset.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clipcurate.datasets.images import ImageIndex
from clipcurate.training.config import TrainConfig
from clipcurate.training.lanes import EqualEpochs, Lanes, UnequalEpochs, Window
from clipcurate.training.mixing import Mixture
from clipcurate.training.order import I64
from clipcurate.training.schedule import stages
from clipcurate.training.thinning import Chosen, Selection, Thinned, Whole


@dataclass(frozen=True)
class _Stage:
    """From position `starts` of each lane on, epochs from `first_epoch` on show what t keeps."""

    starts: I64
    first_epoch: int
    t: float
    lanes: Lanes

    def stop_epoch(self, stops: I64) -> int:
        """Return the first epoch that no lane has begun before its position of `stops`."""
        last = [
            self.lanes.epoch_at(lane, max(int(visits) - 1, 0))
            for lane, visits in enumerate(stops - self.starts)
        ]
        return max(last) + 1


class Order:
    """Which images and texts of a dataset the positions of its lanes show.

    Pure but for the dataset, which is read where that decides it.
    """

    def __init__(
        self, index: ImageIndex, config: TrainConfig, mixture: Mixture, dataset: int = 0
    ) -> None:
        """Prepare the order of dataset number `dataset` of a mixture."""
        self._index = index
        self._config = config
        self._mixture = mixture
        self._dataset = dataset
        self._wanted = stages(config.data.t_schedule)

    def window_at(self, lane: int, position: int) -> Window:
        """Return the window that holds a position of a lane, as far as its stage goes."""
        number = bisect.bisect_right([s.starts[lane] for s in self._stages], position) - 1
        start = int(self._stages[number].starts[lane])
        found = self._stages[number].lanes.window_at(lane, position - start)
        window = replace(found, first=start + found.first)
        if number + 1 == len(self._stages):
            return window
        return _cut(window, int(self._stages[number + 1].starts[lane]))

    def chosen(self, epoch: int, block: int) -> Chosen:
        """Return what an epoch shows of a block."""
        firsts = [stage.first_epoch for stage in self._stages]
        t = self._stages[bisect.bisect_right(firsts, epoch) - 1].t
        return self._selection.chosen(t, epoch, block)

    @cached_property
    def _selection(self) -> Selection:
        thresholds = tuple(dict.fromkeys(stage.t for stage in self._wanted))
        if not thresholds:
            return Whole(self._index)
        online, folder = self._config.data.online, self._config.runtime.cache_dir
        return Thinned(self._index, thresholds, online, folder)

    @cached_property
    def _stages(self) -> Sequence[_Stage]:
        lanes = self._config.data.lanes
        if not self._wanted:
            order = self._lanes(EqualEpochs(self._index.counts))
            return [_Stage(np.zeros(lanes, np.int64), 0, np.inf, order)]
        found: list[_Stage] = []
        for wanted in self._wanted:
            visits = wanted.first_step * (self._config.data.batch_size // lanes)
            starts = np.array(
                [self._mixture.before(v, visits)[self._dataset] for v in range(lanes)]
            )
            first = found[-1].stop_epoch(starts) if found else 0
            found.append(
                _Stage(starts, first, wanted.t, self._lanes(self._epochs(wanted.t, first)))
            )
        return found

    def _epochs(self, t: float, first: int) -> EqualEpochs | UnequalEpochs:
        if self._config.data.online:
            return UnequalEpochs(lambda epoch: self._selection.counts(t, epoch), first)
        return EqualEpochs(self._selection.counts(t, first), first)

    def _lanes(self, epochs: EqualEpochs | UnequalEpochs) -> Lanes:
        data = self._config.data
        return Lanes(epochs, data.lanes, data.window_blocks, self._config.seed, self._dataset)


def _cut(window: Window, stop: int) -> Window:
    """Return a window without the visits from position `stop` on."""
    if window.stop <= stop:
        return window
    visits = stop - window.first
    block = window.block[:visits]
    return replace(window, blocks=np.unique(block), block=block, index=window.index[:visits])
