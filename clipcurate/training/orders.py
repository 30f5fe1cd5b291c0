"""The order of one dataset of a mixture: its lanes, in stages where t changes with the step.

A stage is an order of its own. It begins with a new epoch, wherever the one before stands, so that
an epoch has one t; epochs go on counting. All of it follows from the settings and the dataset.
"""

import bisect
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clipcurate.datasets.images import ImageIndex
from clipcurate.training.config import TrainConfig
from clipcurate.training.lanes import Epochs, EqualEpochs, Lanes, UnequalEpochs, Window
from clipcurate.training.mixing import Mixture
from clipcurate.training.order import I64
from clipcurate.training.schedule import Stage, stages
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
        self._wanted = stages(config.data.t_schedule) or (Stage(0, math.inf),)
        self._starts = [self._position_at(stage.first_step) for stage in self._wanted]
        self._stages: list[_Stage] = []

    def window_at(self, lane: int, position: int) -> Window:
        """Return the window that holds a position of a lane, as far as its stage goes."""
        starts = [int(starts[lane]) for starts in self._starts]
        number = bisect.bisect_right(starts, position) - 1
        found = self._stage(number).lanes.window_at(lane, position - starts[number])
        window = replace(found, first=starts[number] + found.first)
        return window if number + 1 == len(starts) else _cut(window, starts[number + 1])

    def chosen(self, epoch: int, block: int) -> Chosen:
        """Return what an epoch shows of a block. The epoch is one of a window's; for any thread."""
        return self._selection.chosen(self._stage_of(epoch).t, epoch, block)

    def following(self, epoch: int, block: int, number: int) -> I64:
        """Return the next blocks of which an epoch shows something, as for `chosen`."""
        return self._stage_of(epoch).lanes.following(epoch, block, number)

    def _position_at(self, step: int) -> I64:
        """Return the position in each lane at which a step begins."""
        data = self._config.data
        visits = step * (data.batch_size // data.lanes)
        places = [self._mixture.before(lane, visits) for lane in range(data.lanes)]
        return np.array(places)[:, self._dataset]

    def _stage_of(self, epoch: int) -> _Stage:
        firsts = [stage.first_epoch for stage in self._stages]
        return self._stages[bisect.bisect_right(firsts, epoch) - 1]

    def _stage(self, number: int) -> _Stage:
        """Return a stage; those before it are looked into once, none behind it."""
        while len(self._stages) <= number:
            new = len(self._stages)
            starts, t = self._starts[new], self._wanted[new].t
            first = self._stages[-1].stop_epoch(starts) if new else 0
            self._stages.append(_Stage(starts, first, t, self._lanes(t, first)))
        return self._stages[number]

    def _lanes(self, t: float, first: int) -> Lanes:
        data = self._config.data
        epochs: Epochs = (
            UnequalEpochs(lambda epoch: self._selection.counts(t, epoch), first)
            if data.online
            else EqualEpochs(self._selection.counts(t, first), first)
        )
        return Lanes(epochs, data.lanes, data.window_blocks, self._config.seed, self._dataset)

    @cached_property
    def _selection(self) -> Selection:
        """What is shown; reading what decides it can take a while."""
        thresholds = tuple(dict.fromkeys(stage.t for stage in self._wanted))
        if math.inf in thresholds:
            return Whole(self._index)
        online, folder = self._config.data.online, self._config.runtime.cache_dir
        return Thinned(self._index, thresholds, online, folder)


def _cut(window: Window, stop: int) -> Window:
    """Return a window without the visits from position `stop` on."""
    if window.stop <= stop:
        return window
    visits = stop - window.first
    block = window.block[:visits]
    return replace(window, blocks=np.unique(block), block=block, index=window.index[:visits])
