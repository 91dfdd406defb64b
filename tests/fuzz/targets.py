"""What is fuzzed: good files, how they are changed, and how they are opened."""

from __future__ import annotations

import io
import json
import os
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

import autoprune
from autoprune.host.plugins import PluginHost
from autoprune.plugin import SourceContext
from autoprune.structure import discover, write_pruned
from autoprune.study import read_study
from autoprune_sources.digits_cnn import DigitsCnn
from autoprune_sources.huggingface_data import HuggingFaceData
from autoprune_sources.image_folder import ImageFolder
from autoprune_sources.npz import Npz
from autoprune_sources.parquet import Parquet

from . import mutation

_ROOT = Path(__file__).parents[2]
Files = dict[str, bytes]


class Target(ABC):
    """One kind of file."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        """Make the good ones in that folder."""
        self.good = self.made(folder)

    @abstractmethod
    def made(self, folder: Path) -> list[Files]:
        """Good files by their paths."""

    def changed(self, random: Random) -> Files:
        """One of them, changed."""
        files = dict(random.choice(self.good))
        name = random.choice(sorted(files))
        files[name] = self.change(name, files[name], random)
        return files

    def change(self, name: str, content: bytes, random: Random) -> bytes:
        """One file, changed."""
        return mutation.json_bytes(content, random) if name.endswith(".json") else mutation.octets(content, random)

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open what lies in that folder."""

    def lay(self, folder: Path, files: Files) -> None:
        """Put files where they are opened, beside a pipe that nobody writes to."""
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if not (folder / "pipe").exists():
            os.mkfifo(folder / "pipe")


class Specs(Target):
    """Specs, up to their components."""

    name = "specs"

    def made(self, folder: Path) -> list[Files]:
        found = [*(_ROOT / "search_spaces" / "examples").glob("*.yaml"), _ROOT / "autoprune" / "cli" / "template.yaml"]
        self._host = PluginHost()
        return [{"spec.yaml": path.read_bytes()} for path in sorted(found)]

    def change(self, name: str, content: bytes, random: Random) -> bytes:
        if random.random() < 0.05:
            return mutation.octets(content, random)
        if random.random() < 0.5:
            document, mistakes = autoprune.spec.read_text(content.decode())
            assert not mistakes or document.data
            return json.dumps(mutation.tree(document.data, random)).encode("utf-8", "replace")
        return mutation.text(content.decode(), random).encode("utf-8", "replace")

    def open(self, folder: Path) -> None:
        autoprune.load_spec(folder / "spec.yaml", host=self._host)


class Recipes(Target):
    """Saved models: recipes and weights."""

    name = "recipes"

    def made(self, folder: Path) -> list[Files]:
        source, ctx = DigitsCnn(width=4), SourceContext(folder=folder, cache=folder, seed=0)
        network = source.build(ctx).eval()
        structure = discover(network, (torch.rand(2, 1, 8, 8),), ["channels", "weights"])
        kept = structure.select(
            {group.name: torch.rand(group.units) for group in structure.groups},
            {group.name: group.units // 3 for group in structure.groups},
        )
        small, plan = structure.cut(network, kept), structure.plan(network, kept)
        write_pruned(folder / "m", small, plan=plan, kept=kept, cut_units={}, source=source, ctx=ctx)
        self._dense = network
        return [{f"m/{path.name}": path.read_bytes() for path in (folder / "m").iterdir()}]

    def open(self, folder: Path) -> None:
        dense = None if len((folder / "m" / "recipe.json").read_bytes()) % 2 else self._dense
        autoprune.load_pruned(folder / "m", dense=dense)(torch.rand(2, 1, 8, 8))

    def lay(self, folder: Path, files: Files) -> None:
        for path in (folder / "m").glob("*"):
            path.unlink()
        super().lay(folder, files)


class Programs(Target):
    """Exported programs: their entries, and the archive."""

    name = "programs"

    def made(self, folder: Path) -> list[Files]:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.norm, self.last = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

            def forward(self, data: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
                features = self.norm(self.conv(data)).relu().mean((2, 3)) * scale
                return {"y": self.last(features).masked_fill(features[:, :2] > 9, float("-inf")), "z": features}

        inputs = {"data": torch.rand(2, 1, 6, 6), "scale": torch.rand(2, 1)}
        autoprune.save_program(Net(), inputs, folder / "net.pt2")
        with zipfile.ZipFile(folder / "net.pt2") as archive:
            self._entries = {name: archive.read(name) for name in archive.namelist()}
        return [{"net.pt2": (folder / "net.pt2").read_bytes()}]

    def changed(self, random: Random) -> Files:
        entries = dict(self._entries)
        if (kind := random.random()) < 0.85:
            texts = [name for name in entries if name.endswith(".json")]
            name = random.choice(texts if kind < 0.75 else sorted(entries))
            entries[name] = self.change(name, entries[name], random)
        elif kind < 0.9:
            entries[f"net/{random.choice(('data/constants/opaque_obj_0', 'data/weights/model.pt', 'x', '../x'))}"] = (
                b"x"
            )
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        content = stream.getvalue()
        return {"net.pt2": content if kind < 0.9 else mutation.octets(content, random)}

    def open(self, folder: Path) -> None:
        autoprune.load_program(folder / "net.pt2")


class Data(Target):
    """Arrays, tables and images."""

    name = "data"

    def made(self, folder: Path) -> list[Files]:
        random = np.random.default_rng(0)
        arrays = {"x": random.random((40, 3), np.float32), "y": np.arange(40) % 3}
        stored, packed, png, jpeg = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
        np.savez(stored, **arrays)
        np.savez_compressed(packed, **arrays)
        image = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        image.save(png, "PNG")
        image.save(jpeg, "JPEG")
        table = pa.table({"image": [png.getvalue()] * 12, "label": [0, 1, 2] * 4})
        parquet, numbers = io.BytesIO(), io.BytesIO()
        pq.write_table(table, parquet)
        pq.write_table(pa.table({"x": [[1.0, 2.0]] * 30, "label": [0, 1, 2] * 10}), numbers)
        rows = "\n".join(json.dumps({"x": [1, 2], "label": number % 3}) for number in range(30))
        folders = {f"images/{label}/{n}.{end}": each.getvalue() for label in "ab" for n in range(9)
                   for end, each in (("png", png), ("jpg", jpeg))}  # fmt: skip
        return [
            {"data.npz": stored.getvalue()},
            {"data.npz": packed.getvalue()},
            {"p/train.parquet": parquet.getvalue()},
            {"t/train.parquet": numbers.getvalue()},
            {"t/train.jsonl": rows.encode()},
            {"t/train.csv": b"x,label\n" + b"1,0\n2,1\n" * 20},
            folders,
        ]

    def changed(self, random: Random) -> Files:
        files = dict(random.choice(self.good))
        for name in sorted(files) if len(files) > 1 else list(files):  # of many images all, as a few are looked at
            mutate = mutation.text if name.endswith((".csv", ".jsonl")) else None
            content = files[name]
            files[name] = (
                mutate(content.decode(), random).encode("utf-8", "replace")
                if mutate
                else mutation.octets(content, random)
            )
        return files

    def open(self, folder: Path) -> None:
        ctx = SourceContext(folder=folder, cache=folder, seed=0)
        if (folder / "data.npz").exists():
            data = Npz(path="data.npz").load(ctx)
        elif (folder / "p").exists():
            data = Parquet(path="p").load(ctx)
        elif (folder / "t").exists():
            data = HuggingFaceData(path="t", columns={"x": "x"}, label="label").load(ctx)
        else:
            data = ImageFolder(path="images", size=8).load(ctx)
        data.train.fetch(torch.arange(min(4, len(data.train))))

    def lay(self, folder: Path, files: Files) -> None:
        import shutil

        for name in ("data.npz", "p", "t", "images"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        super().lay(folder, files)


class Studies(Target):
    """The files of a study, to be read."""

    name = "studies"

    def made(self, folder: Path) -> list[Files]:
        network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
        targets = torch.arange(60) % 3
        result = autoprune.search(
            model=network,
            data={"train": (torch.rand(60, 6), targets)},
            evaluators=["macs", "accuracy"],
            objectives={"accuracy": "maximize", "macs_ratio": "minimize"},
            trials=3,
            output=str(folder / "study"),
            tracking={"enabled": False},
        )
        names = ("spec.yaml", "study.json", "info.json", "journal.log")
        return [{f"study/{name}": (result.study.folder / name).read_bytes() for name in names}]

    def change(self, name: str, content: bytes, random: Random) -> bytes:
        if not name.endswith(".log"):
            return super().change(name, content, random)
        lines = content.splitlines()
        at = random.randrange(len(lines))
        lines[at] = mutation.json_bytes(lines[at], random)
        return b"\n".join(lines) + b"\n"

    def open(self, folder: Path) -> None:
        read_study(folder / "study")


TARGETS = {each.name: each for each in (Specs, Recipes, Programs, Data, Studies)}
