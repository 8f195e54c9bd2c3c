# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a random forest on Fisher's Iris data and keep it as a file beside this one. The same every time."""

from __future__ import annotations

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

MODEL = Path(__file__).with_name("forest.joblib")

if __name__ == "__main__":
    measurements, species = load_iris(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=50, min_samples_leaf=2, oob_score=True, random_state=20)
    forest.fit(measurements, species)
    # By the trees that have not seen a flower: what it learned, not what it remembers.
    if forest.oob_score_ < 0.9:
        raise SystemExit(f"the forest knows only {forest.oob_score_:.3f} of the flowers; at least 0.9 is expected")
    joblib.dump(forest, MODEL)
    print(f"trained: {forest.oob_score_:.3f} of the flowers are known")
