"""Second stage: teach link tokens to a trained model.

Documents of a masked row are followed by 0, 1 or 5 link tokens, which see everything before them, so that they can carry facts from one document to
the next. Half of the rows are `inherit`, the others are the older tasks; all parameters are trained.

    python train_links.py --from work/state.pt --model ../recall_links --work work_links --bf16

starts from the state that `train.py` left and counts steps, not minutes; the same command resumes an interrupted run.
"""
import argparse
import os
import shutil

import train
from train import Level, Run, Sampler

LEVELS = [(0.25, Level(64, 160, 3072, 0, 0, 100)), (0.5, Level(96, 320, 4096, 0, 0, 1000)), (0.75, Level(160, 560, 5120, 0, 0, 2000)),
          (2.0, Level(128, 1100, 6144, 0, 0, 2500))]


class LinkSampler(Sampler):
    """Half `inherit` rows, half older tasks."""

    def batch(self, level, copying, shares):
        rng = self.rng
        rows, names, longest = [], [], 0
        old = [t for t in shares if t != "inherit"]
        while True:
            if copying:
                name, row = "copy", self.copy_row(level.low, level.high)
            else:
                inherit = rng.random() < 0.55
                name = "inherit" if inherit else rng.choices(old, [shares[t] for t in old])[0]
                masked = rng.random() < (0.7 if inherit else 0.5)
                links = rng.choices([0, 1, 5], [1, 2, 3] if inherit else [2, 1, 1])[0] if masked else 0
                row = self.task_row(name, level, masked, links)
                if inherit:
                    name = f"inherit-{links}" if masked else "inherit-full"
            if row is None:
                continue
            longest = max(longest, len(row.ids))
            if rows and longest * (len(rows) + 1) > level.batch:
                return train.collate(rows), names
            rows.append(row)
            names.append(name)


class LinkRun(Run):
    """Counts steps, not time, so that other work on the machine does not shorten the training; starts from the state of train.py."""

    def __init__(self, arguments):
        arguments.minutes = float("inf")
        fresh = not os.path.exists(os.path.join(arguments.work, "state.pt"))
        if fresh:
            os.makedirs(arguments.work, exist_ok=True)
            shutil.copy(arguments.start, os.path.join(arguments.work, "state.pt"))
        super().__init__(arguments)
        if fresh:
            self.level, self.level_step, self.seconds = len(train.LEVELS) - 1, 0, 0.0
        self.sampler = LinkSampler(self.prompts, arguments.seed * 100003 + self.step)
        self.set_level()

    def details(self):
        return {**super().details(), "link_tokens": [1, 5]}

    def share(self):
        return self.level_step / self.arguments.steps

    def rate(self):
        return min(1.0, (self.level_step + 1) / 50, max(0.0, 1 - self.share()) / self.arguments.cooldown)

    def set_level(self):
        train.LEVELS[self.level] = next(level for end, level in LEVELS if self.share() < end)

    def maybe_advance(self):
        self.set_level()
        if self.level_step >= self.arguments.steps:
            self.arguments.minutes = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="start", default="work/state.pt", help="state of train.py")
    parser.add_argument("--model", default="../recall_links", help="folder of the exported model, with the tokenizer of the first stage")
    parser.add_argument("--work", default="work_links", help="folder of the training state")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--cooldown", type=float, default=0.3)
    parser.add_argument("--muon", type=float, default=0.008)
    parser.add_argument("--adam", type=float, default=0.0025)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    LinkRun(parser.parse_args()).loop()


if __name__ == "__main__":
    main()
