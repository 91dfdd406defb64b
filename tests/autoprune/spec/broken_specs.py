"""Specs that are wrong: what each is called, its text, and every line that must be told about it.

The components they name are the built-in ones; the host's own tests stand toys of the same names in for them. The
messages quoted here hold for both.
"""

from __future__ import annotations

from typing import NamedTuple


class Broken(NamedTuple):
    """A wrong spec."""

    id: str
    text: str
    lines: list[tuple[int, int, str]]
    """Line, column and a part of the message of every mistake, in the order of the file."""


GOOD = """\
name: digits
model: {use: digits-cnn}
data: {use: digits}
search_space: {ratio: {low: 0.0, high: 0.8}, groups: {"stage1.*": {high: 0.5}, head: keep}}
scorer: {use: taylor, batches: 4}
strategy: {use: one-shot, recover: {use: bn-recalibration, samples: 64}}
evaluators:
  - {use: accuracy, samples: 200}
  - {use: latency, batch_size: 16}
  - {use: pgd, epsilon: 2/255, steps: 3, samples: 64}
objectives: {accuracy: maximize, latency_ms: minimize, robust_accuracy: maximize}
constraints: {accuracy: ">= 0.80"}
search: {sampler: {use: nsga2}, trials: 20, timeout: 10m, seed: 0}
"""
"""The spec that the wrong ones are made from."""

_LINES = GOOD.splitlines(keepends=True)


def _with(number: int, *replacement: str) -> str:
    """The good spec with other lines in place of line ``number``."""
    new = [f"{line}\n" for line in replacement]
    return "".join([*_LINES[: number - 1], *new, *_LINES[number:]])


BROKEN = [
    # what is no YAML, or more of it than a spec may use
    Broken("empty", "", [(1, 1, "spec: is empty")]),
    Broken("only-comments", "# name: x\n# model: y\n", [(1, 1, "spec: is empty")]),
    Broken("a-list", "- name: x\n- model: y\n", [(1, 1, "spec: must be a mapping of keys")]),
    Broken("a-word", "\nhello\n", [(2, 1, "spec: must be a mapping of keys")]),
    Broken("open-bracket", _with(3, "data: {use: digits"), [(4, 13, "expected ',' or '}'")]),
    Broken("open-quote", 'model: {use: digits-cnn}\nname: "digits\n', [(3, 1, "that begins in line 2")]),
    Broken("tab", _with(8, "\t- {use: accuracy}"), [(8, 1, "a tab cannot indent; use spaces")]),
    Broken("two-colons", _with(1, "name: a: b"), [(1, 8, "a value that holds ': ' must be quoted")]),
    Broken("bare-bound", _with(12, "constraints:", "  accuracy: >= 0.8"), [(13, 14, "quote text that begins with >")]),
    Broken("indentation", _with(9, "   - {use: latency}"), [(9, 4, "mend the indentation")]),
    Broken("control-character", _with(1, "name: \x07"), [(1, 7, "the character '\\x07' may not stand in a file")]),
    Broken("two-documents", f"{GOOD}---\nname: again\n", [(14, 1, "a second document begins here")]),
    Broken("duplicate-key", f"{GOOD}name: again\n", [(14, 1, "name: this key stands in line 1 already")]),
    Broken(
        "duplicate-inner-key",
        _with(13, "search: {seed: 1, seed: 2}"),
        [(13, 19, "search.seed: this key stands in line 13")],
    ),
    Broken(
        "alias",
        _with(5, "scorer: &ranking {use: l1}", "strategy: *ranking").replace(_LINES[5], ""),
        [(5, 9, "scorer: anchors are not read"), (6, 11, "strategy: aliases are not read")],
    ),
    Broken(
        "granularity",
        _with(4, "search_space: {use: [channels, block]}"),
        [(4, 32, "search_space.use.1: there is no granularity 'block'; did you mean 'blocks'?")],
    ),
    Broken(
        "two-masks",
        _with(4, "search_space: {use: [weights, 2:4]}"),
        [(4, 16, "search_space.use: weights and 2:4 would both set the same weights to zero; choose one")],
    ),
    Broken(
        "all-of-m",
        _with(4, "search_space: {use: 4:4}"),
        [(4, 16, "search_space.use: 4:4 keeps 4 of each 4 weights; write fewer than all, as in 2:4")],
    ),
    Broken("bare-star", _with(4, "search_space: {groups: {*conv: keep}}"), [(4, 25, "quote one that begins with *")]),
    Broken("tag", _with(2, "model: !!python/object:os.system {use: digits-cnn}"), [(2, 8, "model: tags are not read")]),
    Broken("list-as-key", _with(4, "search_space: {groups: {[a, b]: keep}}"), [(4, 25, "a key must be plain text")]),
    Broken("too-deep", f"{GOOD}deep: {'[' * 40}{']' * 40}\n", [(14, 38, "is nested deeper than 32 levels")]),
    Broken("placeholder", _with(1, "name: ${autoprune"), [(1, 7, "write a placeholder as ${NAME}")]),
    Broken(
        "variable",
        _with(3, 'data: {use: parquet, path: "${AUTOPRUNE_UNSET}/cifar10"}'),
        [(3, 28, "data.path: the environment variable AUTOPRUNE_UNSET is not set")],
    ),
    Broken("bare-placeholder", _with(13, "search: {seed: ${SEED}}"), [(13, 17, 'quote a placeholder: "${NAME}"')]),
    # keys
    Broken("missing-model", _with(2), [(1, 1, "model: missing key")]),
    Broken("missing-objectives", _with(11), [(1, 1, "objectives: missing key")]),
    Broken("unknown-section", _with(5, "scorers: {use: l1}"), [(5, 1, "scorers: unknown key; did you mean 'scorer'?")]),
    Broken(
        "unknown-key",
        _with(13, "search: {trails: 20}"),
        [(13, 10, "search.trails: unknown key; did you mean 'trials'?")],
    ),
    Broken(
        "unknown-ratio-key",
        _with(4, "search_space: {ratio: {max: 0.5}}"),
        [(4, 24, "search_space.ratio.max: unknown key; known: high, low")],
    ),
    Broken(
        "unknown-group-key",
        _with(4, 'search_space: {groups: {"stage1.*": {hihg: 0.5}}}'),
        [(4, 38, "search_space.groups.\"stage1.*\".hihg: unknown key; did you mean 'high'?")],
    ),
    # values
    Broken("name-with-space", _with(1, "name: my digits"), [(1, 1, "name: must begin with a letter or digit")]),
    Broken("name-as-number", _with(1, "name: 20"), [(1, 1, "name: must be text, not 20")]),
    Broken("empty-section", _with(13, "search:"), [(13, 1, "search: must be a mapping, not nothing")]),
    Broken(
        "trials-as-word",
        _with(13, "search: {trials: many}"),
        [(13, 10, "search.trials: must be a whole number, not 'many'")],
    ),
    Broken("no-trials", _with(13, "search: {trials: 0}"), [(13, 10, "search.trials: must be at least 1, not 0")]),
    Broken(
        "half-a-trial", _with(13, "search: {trials: 1.5}"), [(13, 10, "search.trials: must be a whole number, not 1.5")]
    ),
    Broken(
        "truth-as-number", _with(13, "search: {trials: true}"), [(13, 10, "search.trials: must be a number, not true")]
    ),
    Broken(
        "bare-duration",
        _with(13, "search: {timeout: 30}"),
        [(13, 10, "search.timeout: write a duration as 90s, 30m or 1h30m")],
    ),
    Broken("odd-device", f"{GOOD}device: gpu\n", [(14, 1, "device: must be auto, cpu, cuda or cuda:0")]),
    Broken(
        "final-samples",
        _with(13, "search: {final: {samples: most}}"),
        [(13, 18, "search.final.samples: write auto, all or a number of samples")],
    ),
    Broken(
        "final-samples-none",
        _with(13, "search: {final: {samples: 0}}"),
        [(13, 18, "search.final.samples: write auto, all or a number of samples")],
    ),
    Broken(
        "trial-timeout-alone",
        _with(13, "search: {trial_timeout: 5m}"),
        [(13, 10, "search.trial_timeout: needs search.workers: 2 or more")],
    ),
    Broken(
        "whole-layer",
        _with(4, "search_space: {ratio: {high: 1.0}}"),
        [(4, 24, "search_space.ratio.high: must be below 1, not 1.0")],
    ),
    Broken(
        "crossed-ratios",
        _with(4, "search_space: {ratio: {low: 0.6, high: 0.5}}"),
        [(4, 16, "search_space.ratio: low 0.6 is above high 0.5")],
    ),
    Broken(
        "crossed-group-ratios",
        _with(4, "search_space: {groups: {head: {low: 0.9}}}"),
        [
            (
                4,
                25,
                "search_space.groups.head: low 0.9 is above high 0.8; what is left out comes from search_space.ratio",
            )
        ],
    ),
    Broken(
        "kept-group",
        _with(4, "search_space: {groups: {head: kept}}"),
        [(4, 25, "search_space.groups.head: must be 'keep', not 'kept'; did you mean 'keep'?")],
    ),
    Broken(
        "direction",
        _with(11, "objectives: {accuracy: maximise}"),
        [(11, 14, "objectives.accuracy: must be 'minimize' or 'maximize', not 'maximise'; did you mean 'maximize'?")],
    ),
    Broken(
        "objectives-as-list",
        _with(11, "objectives: [accuracy]"),
        [(11, 1, "objectives: must be a mapping, not a list")],
    ),
    Broken("no-objective", _with(11, "objectives: {}"), [(11, 1, "objectives: must not be empty")]),
    Broken(
        "strict-bound",
        _with(12, 'constraints: {accuracy: "> 0.8"}'),
        [(12, 15, 'constraints.accuracy: write a bound as ">= 0.80"')],
    ),
    Broken(
        "number-as-bound",
        _with(12, "constraints: {accuracy: 0.8}"),
        [(12, 15, 'constraints.accuracy: write a bound as ">= 0.80"')],
    ),
    # components and their options
    Broken("bare-component", _with(5, "scorer: l1"), [(5, 1, "scorer: write {use: l1}")]),
    Broken("nameless-component", _with(5, "scorer: {batches: 4}"), [(5, 1, "scorer: name a component: {use: name}")]),
    Broken("no-scorer", _with(5, "scorer: []"), [(5, 1, "scorer: must not be empty")]),
    Broken("component-in-list", _with(5, "scorer: [{use: l1}, taylor]"), [(5, 21, "scorer.1: write {use: taylor}")]),
    Broken(
        "one-to-choose", _with(5, "scorer: {choose: [{use: l1}]}"), [(5, 10, "scorer.choose: must have at least 2")]
    ),
    Broken(
        "bare-choice",
        _with(5, "scorer: {choose: [{use: l1}, taylor]}"),
        [(5, 30, "scorer.choose.1: write {use: taylor}")],
    ),
    Broken(
        "choice-and-more",
        _with(5, "scorer: {choose: [{use: l1}, {use: taylor}], batches: 3}"),
        [(5, 46, "scorer.batches: unknown key; known: choose")],
    ),
    Broken(
        "unknown-choice",
        _with(5, "scorer: {choose: [{use: l1}, {use: tailor}]}"),
        [(5, 31, "scorer.choose.1.use: no scorer is called 'tailor'; did you mean 'taylor'?")],
    ),
    Broken("bare-task", f"{GOOD}task: regression\n", [(14, 1, "task: write {use: regression}")]),
    Broken(
        "unknown-task",
        f"{GOOD}task: {{use: clasification}}\n",
        [(14, 8, "task.use: no task is called 'clasification'; did you mean 'classification'?")],
    ),
    Broken("one-transform", f"{GOOD}transforms: {{use: low-rank}}\n", [(14, 1, "transforms: must be a list, not")]),
    Broken(
        "unknown-transform",
        f"{GOOD}transforms: [{{use: low-rnk}}]\n",
        [(14, 15, "transforms.0.use: no transform is called 'low-rnk'; did you mean 'low-rank'?")],
    ),
    Broken(
        "unknown-exporter", f"{GOOD}exporters: [{{use: tape}}]\n", [(14, 14, "exporters.0.use: no exporter is called")]
    ),
    Broken(
        "unknown-observer", f"{GOOD}observers: [{{use: spy}}]\n", [(14, 14, "observers.0.use: no observer is called")]
    ),
    Broken(
        "unknown-executor",
        _with(13, "search: {executor: {use: lokal}}"),
        [(13, 21, "search.executor.use: no executor is called 'lokal'; did you mean 'local'?")],
    ),
    Broken("plugin-path", f"{GOOD}plugins: [3]\n", [(14, 11, "plugins.0: must be text, not 3")]),
    Broken("no-plugin", f"{GOOD}plugins: [nowhere.py]\n", [(14, 11, "plugins.0: ")]),
    # what the search chooses
    Broken(
        "one-value",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {choose: [0.1]}}}"),
        [(6, 53, "strategy.recover.lr: give two options or more, each once")],
    ),
    Broken(
        "choice-value",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {choose: [0.1, fast]}}}"),
        [(6, 72, "strategy.recover.lr.choose.1: must be a number, not 'fast'")],
    ),
    Broken(
        "first-choice-value",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {choose: [0, 0.1]}}}"),
        [(6, 67, "strategy.recover.lr.choose.0: must be above 0, not 0")],
    ),
    Broken(
        "choice-in-choice",
        _with(
            6,
            "strategy: {use: one-shot, recover: {choose: [{use: none}, {use: fine-tune, lr: {low: 0, high: 1}}]}}",
        ),
        [(6, 81, "strategy.recover.choose.1.lr.low: must be above 0, not 0")],
    ),
    Broken(
        "chosen-recovery",
        _with(6, "strategy: {use: one-shot, recover: {choose: [{use: none}, {use: finetune}]}}"),
        [(6, 60, "strategy.recover.choose.1.use: no recovery is called 'finetune'; did you mean 'fine-tune'?")],
    ),
    Broken(
        "bounds",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {low: -1, high: 0}}}"),
        [
            (6, 58, "strategy.recover.lr.low: must be above 0, not -1"),
            (6, 67, "strategy.recover.lr.high: must be above 0, not 0"),
        ],
    ),
    Broken(
        "crossed-bounds",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {low: 1, high: 0.5}}}"),
        [(6, 53, "strategy.recover.lr: low 1 is not below high 0.5")],
    ),
    Broken(
        "log-of-0",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, lr: {low: 0, high: 1, log: true}}}"),
        [(6, 53, "strategy.recover.lr: a log scale begins above 0, not at 0")],
    ),
    Broken(
        "half-a-batch",
        _with(5, "scorer: {use: taylor, batches: {low: 1.5, high: 4}}"),
        [(5, 33, "scorer.batches.low: must be a whole number, not 1.5")],
    ),
    Broken(
        "no-high",
        _with(5, "scorer: {use: taylor, batches: {low: 1, hihg: 4}}"),
        [
            (5, 23, "scorer.batches.high: missing key"),
            (5, 41, "scorer.batches.hihg: unknown key; did you mean 'high'?"),
        ],
    ),
    Broken(
        "range-of-words",
        _with(5, "scorer: {use: l2, weights: {low: 1, high: 2}}"),
        [(5, 19, "scorer.weights: a range is for numbers; write {choose: […]}")],
    ),
    Broken(
        "open-evaluator",
        _with(9, "  - {use: latency, batch_size: {choose: [1, 16]}}"),
        [(9, 20, "evaluators.1.batch_size: options of the evaluator are not for the search to choose")],
    ),
    Broken(
        "open-sampler",
        _with(13, "search: {sampler: {use: nsga2, population_size: {low: 10, high: 50}}}"),
        [(13, 32, "search.sampler.population_size: options of the sampler are not for the search to choose")],
    ),
    Broken(
        "unknown-component",
        _with(5, "scorer: {use: tailor}"),
        [(5, 10, "scorer.use: no scorer is called 'tailor'; did you mean 'taylor'?")],
    ),
    Broken(
        "other-kind",
        _with(5, "scorer: {use: pgd}"),
        [(5, 10, "scorer.use: no scorer is called 'pgd'; 'pgd' is of kind evaluator")],
    ),
    Broken(
        "unknown-option",
        _with(5, "scorer: {use: taylor, batchs: 4}"),
        [(5, 23, "scorer.batchs: unknown key; did you mean 'batches'?")],
    ),
    Broken(
        "option-value",
        _with(8, "  - {use: accuracy, samples: none}"),
        [(8, 21, "evaluators.0.samples: must be a whole number, not 'none'")],
    ),
    Broken(
        "option-choice",
        _with(10, "  - {use: pgd, epsilon: 0.1, norm: inf}"),
        [(10, 30, "evaluators.2.norm: must be 'linf' or 'l2', not 'inf'; did you mean 'linf'?")],
    ),
    Broken("missing-option", _with(10, "  - {use: pgd, steps: 3}"), [(10, 5, "evaluators.2.epsilon: missing key")]),
    Broken(
        "epsilon",
        _with(10, "  - {use: pgd, epsilon: 2/0}"),
        [(10, 16, "evaluators.2.epsilon: write a distance as 2/255")],
    ),
    Broken(
        "unknown-recovery",
        _with(6, "strategy: {use: one-shot, recover: {use: finetune}}"),
        [(6, 37, "strategy.recover.use: no recovery is called 'finetune'; did you mean 'fine-tune'?")],
    ),
    Broken(
        "recovery-option",
        _with(6, "strategy: {use: one-shot, recover: {use: fine-tune, epoch: 2}}"),
        [(6, 53, "strategy.recover.epoch: unknown key; did you mean 'epochs'?")],
    ),
    Broken(
        "bare-recovery",
        _with(6, "strategy: {use: one-shot, recover: fine-tune}"),
        [(6, 27, "strategy.recover: name a recovery")],
    ),
    Broken(
        "sampler",
        _with(13, "search: {sampler: {use: tpe, multivariat: true}}"),
        [(13, 30, "search.sampler.multivariat: unknown key; did you mean 'multivariate'?")],
    ),
    # metrics
    Broken(
        "unknown-objective",
        _with(11, "objectives: {accuracy: maximize, latency: minimize}"),
        [(11, 34, "objectives.latency: no evaluator makes this metric; did you mean 'latency_ms'?")],
    ),
    Broken(
        "unmeasured-objective",
        _with(11, "objectives: {macs: minimize}"),
        [(11, 14, "objectives.macs: no evaluator makes this metric; add {use: macs} to evaluators")],
    ),
    Broken(
        "unknown-constraint",
        _with(12, 'constraints: {acuracy: ">= 0.8"}'),
        [(12, 15, "constraints.acuracy: no evaluator makes this metric; did you mean 'accuracy'?")],
    ),
    Broken(
        "metric-twice",
        _with(9, "  - {use: fgsm, epsilon: 0.1}"),
        [
            (10, 5, "evaluators.2: makes robust_accuracy, as evaluators.1 does; give one of them a label"),
            (11, 34, "objectives.latency_ms: no evaluator makes this metric; add {use: latency} to evaluators"),
        ],
    ),
    Broken(
        "many-at-once",
        """\
name: my search
model: {use: digits-cn}
data: {use: digits, folder: "${AUTOPRUNE_UNSET}"}
scorer: [{use: taylor, batches: 0}, {use: l3}]
search_space: {ratio: {low: -1}, groups: {a: 0.5}}
evaluators:
- use: accuracy
  sample: 3
- use: pgd
objectives: {accuracy: max, size_mb: minimize}
search: {sampler: {use: tpe}, trials: ten, trials: 3}
zoo: keeper
""",
        [
            (1, 1, "name: must begin with"),
            (2, 9, "model.use: no model is called 'digits-cn'; did you mean 'digits-cnn'?"),
            (3, 29, "data.folder: the environment variable AUTOPRUNE_UNSET is not set"),
            (4, 24, "scorer.0.batches: must be at least 1, not 0"),
            (4, 38, "scorer.1.use: no scorer is called 'l3'; known: "),
            (5, 24, "search_space.ratio.low: must be at least 0, not -1"),
            (5, 43, "search_space.groups.a: write bounds such as {high: 0.5}, or keep"),
            (8, 3, "evaluators.0.sample: unknown key; did you mean 'samples'?"),
            (9, 3, "evaluators.1.epsilon: missing key"),
            (10, 14, "objectives.accuracy: must be 'minimize' or 'maximize', not 'max'; did you mean 'maximize'?"),
            (10, 29, "objectives.size_mb: no evaluator makes this metric"),
            (11, 31, "search.trials: must be a whole number, not 'ten'"),
            (11, 44, "search.trials: this key stands in line 11 already"),
            (12, 1, "zoo: unknown key"),
        ],
    ),
]
"""Every wrong spec."""
