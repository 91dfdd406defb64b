"""What several plugins would otherwise write again. Public: import from the modules.

* `autoprune.toolkit.samples`: an evaluator that measures samples derives from ``SampleEvaluator``, which picks them and
  keeps them on the device; ``losses`` and ``right_shares`` ask the task about a batch, and check what it says.
* `autoprune.toolkit.intervals`: 95 % intervals of what was measured, for early rejection and for the reader.
* `autoprune.toolkit.activations`: what the units of all groups do on samples, in one pass; for scorers.
* `autoprune.toolkit.gradients`: gradients of the task's loss, batch by batch; for scorers.
* `autoprune.toolkit.training`: the one training loop, for recoveries and strategies that train.
* `autoprune.toolkit.layers`: convolutions and linear layers as matrices: what their outputs are products of.
* `autoprune.toolkit.least_squares`: weights that give wanted outputs, near given weights; from sums of products.
* `autoprune.toolkit.balls`: norm balls around inputs, for attacks.
* `autoprune.toolkit.splits`: three distinct splits from whatever a data source found.
* `autoprune.toolkit.loading`: the same from tensors, datasets, loaders and iterables of batches.
* `autoprune.toolkit.importing`: what an import path names, looked up in the spec's folder first.
* `autoprune.toolkit.files`: paths and names of a spec, and what to say when they lead nowhere.
* `autoprune.toolkit.packages`: packages that only some need, and what to run where one is missing.

None of it imports torch before it is called, so that a spec is checked without.
"""
