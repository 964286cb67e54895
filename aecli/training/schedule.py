"""At which steps of a run something besides training happens: pure arithmetic."""

from __future__ import annotations

from typing import NamedTuple

from aecli.config.schema import Train, epoch_end


class Schedule(NamedTuple):
    """The schedule of `train` for a run of so many `steps` on a train split of `size` images, `batch` of them a step."""

    train: Train
    steps: int
    size: int
    batch: int

    def epoch(self, step: int) -> float:
        """How many passes over the train split are done by `step`."""
        return step * self.batch / self.size

    def next_stop(self, step: int) -> int:
        """The first step after `step` at which something besides training happens."""
        stops = [self.steps, _next(step, self.train.log_every), self._eval_step(self._evaluations(step) + 1)]
        if self.train.checkpoint_every:
            stops.append(_next(step, self.train.checkpoint_every))
        return min(stops)

    def is_eval(self, step: int) -> bool:
        """Whether the validation split is measured at `step`: at the end of every `eval_every` passes, and of the run."""
        return step > 0 and (step == self.steps or step == self._eval_step(self._evaluations(step)))

    def is_log(self, step: int) -> bool:
        """Whether a row of training values ends at `step`."""
        return step % self.train.log_every == 0 or step == self.steps

    def is_save(self, step: int) -> bool:
        """Whether a checkpoint is due at `step`, whatever was measured there."""
        every = self.train.checkpoint_every
        return step == self.steps or (step % every == 0 if every else self.is_eval(step))

    def _eval_step(self, evaluation: int) -> int:
        return epoch_end(evaluation * self.train.eval_every, self.size, self.batch)

    def _evaluations(self, step: int) -> int:
        """How many evaluations are due by `step`."""
        return step * self.batch // self.size // self.train.eval_every


def _next(step: int, every: int) -> int:
    """The first multiple of `every` after `step`."""
    return (step // every + 1) * every
