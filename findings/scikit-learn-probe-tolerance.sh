#!/usr/bin/env bash
# What: the few-shot linear probe of CLIP and CoOp, LogisticRegression(C=c, max_iter=1000) with c searched from 1e-6 to
#       1e6, stops far from its optimum on image features where C is large. The solver's tolerance once bounded the
#       gradient of the loss summed over images, today that of their mean. No ConvergenceWarning is given.
# Why it matters: the search for C compares stopping points in place of optima, and a probe that stands beside a method
#       as its reference loses tens of points. A tolerance that follows C, and Newton's method, find the optimum.
# Seen with: scikit-learn 1.2.2 (numpy 1.26.4, scipy 1.11.4) and 1.9.1 (numpy 2.4.6, scipy 1.17.1), Python 3.11; 2026-11-28.
# Output seen: 1.2.2 C=1e+04 lbfgs: 64 iterations, accuracy 0.923, warnings 0
#              1.9.1 C=1e+04 lbfgs: 7 iterations, accuracy 0.510, warnings 0
#              1.9.1 C=1e+04 newton-cg, tol=1e-10: 12 iterations, accuracy 0.924, warnings 0
#       The script fails if that changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/old"
python3 -m venv "$work/new"
"$work/old/bin/pip" install -q scikit-learn==1.2.2 numpy==1.26.4 scipy==1.11.4
"$work/new/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1

cat > "$work/probe.py" <<'PY'
import sys
import warnings

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

CLASSES, WIDTH = 100, 512
generator = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


centres, common = unit(generator.normal(size=(CLASSES, WIDTH))), unit(generator.normal(size=WIDTH))


def draw(per_class):
    """Unit vectors in a narrow cone with a direction for each class, as image features of CLIP are."""
    labels = np.repeat(np.arange(CLASSES), per_class)
    noise = 1.04 * generator.normal(size=(len(labels), WIDTH)) / np.sqrt(WIDTH)
    return unit(2 * common + 0.35 * centres[labels] + noise), labels


train, test = draw(4), draw(20)


def accuracy(c, name, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = LogisticRegression(C=c, max_iter=1000, **options).fit(*train)
    found = fitted.score(*test)
    steps = int(fitted.n_iter_.max())
    print(f"{sklearn.__version__} C={c:.0e} {name}: {steps} iterations, accuracy {found:.3f}, warnings {len(caught)}")
    return found, len(caught)


is_new = sys.argv[1] == "new"
gentle, _ = accuracy(1e2, "lbfgs")
strong, warned = accuracy(1e4, "lbfgs")
assert gentle > 0.9
assert warned == 0
assert strong < 0.7 if is_new else strong > 0.9
if is_new:
    optimum, _ = accuracy(1e4, "newton-cg, tol=1e-10", solver="newton-cg", tol=1e-10)
    assert optimum > 0.9
PY
"$work/old/bin/python" "$work/probe.py" old
"$work/new/bin/python" "$work/probe.py" new
echo "as described: the same lines lose 40 points in silence"
