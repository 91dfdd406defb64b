"""A single file as a third party would write one: an executor, an observer and exporters."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.plugin import Artifact, Executor, Exporter, Observer

if TYPE_CHECKING:
    from torch import nn

    from autoprune.plugin import ExportContext, Inputs, ObserverContext, StudyInfo, TrialResult, Workers, Workplace


class Crew(Executor):
    """A pool of threads, each of which has a worker process of its own."""

    name = "crew"

    def open(self, workplace: Workplace) -> Workers:
        return CrewWorkers(workplace)


class CrewWorkers:
    def __init__(self, workplace: Workplace) -> None:
        self.capacity = 1
        """Grows: a cluster gives its nodes one after the other."""
        self.workplace = workplace
        self.jobs: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.processes: list[subprocess.Popen[str]] = []

    def submit(self, job: str) -> None:
        if len(self.processes) < self.workplace.capacity:
            command = self.workplace.command(len(self.processes), 1)
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.processes.append(process)
            assert process.stdout
            assert json.loads(process.stdout.readline()) == ""
            threading.Thread(target=self.work, args=(process,), daemon=True).start()
        self.jobs.put(job)

    def work(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        while (job := self.jobs.get()) is not None:
            process.stdin.write(job + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            self.results.put(line or self.workplace.failed(job, "the crew left"))
            self.results.put(line or self.workplace.failed(job, "said twice, heard once"))

    def next(self) -> str:
        self.capacity = self.workplace.capacity
        return self.results.get()

    def cancel(self) -> None:
        while not self.jobs.empty():
            self.jobs.get()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


class Diary(Observer):
    """A line for each trial."""

    name = "diary"

    def study_started(self, study: StudyInfo, ctx: ObserverContext) -> dict[str, str]:
        return {"diary": str(ctx.folder)}

    def trial_finished(self, study: StudyInfo, result: TrialResult, ctx: ObserverContext) -> None:
        with (ctx.folder / "diary.txt").open("a") as file:
            file.write(f"{result.number} {result.state}\n")


class Shapes(Exporter):
    """The shapes of the model's parameters; counts how often it is asked."""

    name = "shapes"
    fault: str = ""

    def export(self, model: nn.Module, examples: Inputs, folder: Path, ctx: ExportContext) -> Artifact:
        assert not model.training
        assert not list(folder.iterdir())
        shapes = {name: list(tensor.shape) for name, tensor in model.named_parameters()}
        made = {"shapes": shapes, "outputs": list(examples.feed(model).shape), "mean": ctx.normalization.mean}
        file = folder / "shapes.json"
        file.write_text(json.dumps(made))
        with (folder.parents[4] / "exported").open("a") as log:
            log.write("once\n")
        if self.fault == "raise":
            raise ValueError("no\nspace")
        elsewhere = {"outside": folder.parent / "x", "missing": folder / "gone", "nothing": None}
        if self.fault in elsewhere:
            path = elsewhere[self.fault]
            return path and Artifact(path)
        return Artifact(file, "open it with json")
