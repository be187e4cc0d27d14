"""Writes data/runs.csv: five training runs of a hundred epochs each, the same at every call."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
EPOCHS = 100
HEAD = ("run", "learning_rate", "epoch", "train_loss", "valid_loss", "valid_accuracy", "seconds")


def rows() -> list[tuple[object, ...]]:
    """Losses that fall as a power of the time trained; large rates learn fast and overfit."""
    noise = random.Random(7)  # noqa: S311 - measurements, not secrets
    found: list[tuple[object, ...]] = []
    for number, rate in enumerate(RATES, start=1):
        speed = 0.25 + 0.22 * math.log10(rate / RATES[0])
        overfit = 2.6 * rate**0.9
        for epoch in range(1, EPOCHS + 1):
            train = 2.3 * epoch**-speed * math.exp(noise.gauss(0, 0.015))
            valid = train + 0.08 + overfit * (epoch / EPOCHS) ** 1.5 * 4 + noise.gauss(0, 0.012)
            accuracy = 1 / (1 + math.exp(2.2 * valid - 2.4)) + noise.gauss(0, 0.003)
            seconds = 41 + noise.gauss(0, 0.8) + (9 if epoch % 25 == 0 else 0)
            found.append(
                (
                    f"run-{number}",
                    rate,
                    epoch,
                    f"{train:.4f}",
                    f"{valid:.4f}",
                    f"{min(accuracy, 0.999):.4f}",
                    f"{seconds:.1f}",
                )
            )
    return found


def main() -> None:
    path = Path(__file__).with_name("data") / "runs.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        writer.writerows(rows())


if __name__ == "__main__":
    main()
