"""Give a checkpoint another layer: ``python grow.py OLD.pt NEW.pt --after 2``.

The new layer reads what the layer before it reads, and adds nothing until it is trained, so the network computes what it
did; training goes on with the larger one. (Function-preserving growth: Chen, Goodfellow and Shlens 2015, "Net2Net".)
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from model import ModelConfig, TinyChat
from optimiser import Optimiser
from torch import Tensor

SILENT = ("o_proj.weight", "down_proj.weight")
"""Matrices through which a layer adds to the stream."""


def source(name: str, after: int) -> tuple[str, bool]:
    """The old parameter that a new one begins as, and whether it belongs to the new layer."""
    found = re.fullmatch(r"(.*layers\.)(\d+)(\..*)", name)
    if not found or int(found[2]) <= after:
        return name, False
    return f"{found[1]}{int(found[2]) - 1}{found[3]}", int(found[2]) == after + 1


def grown(weights: dict[str, Tensor], names: list[str], after: int) -> dict[str, Tensor]:
    """The weights of the larger network."""
    result = {}
    for name in names:
        old, new = source(name, after)
        result[name] = torch.zeros_like(weights[old]) if new and name.endswith(SILENT) else weights[old].clone()
    return result


def optimiser_of(net: TinyChat, state: dict[str, Any] | None) -> tuple[Optimiser, dict[str, int]]:
    """An optimiser, with its ``state`` if there is one, and the place of each parameter in its lists."""
    optimiser = Optimiser(net, 0, 1, 0.0, 0.0)
    if state is not None:
        optimiser.load(state)
    named = {id(p): name for name, p in net.named_parameters()}
    others = [p for group in optimiser.adam.param_groups for p in group["params"]]
    return optimiser, {named[id(p)]: i for chosen in (optimiser.matrices, others) for i, p in enumerate(chosen)}


def grown_optimiser(old: TinyChat, net: TinyChat, state: dict[str, Any], after: int) -> dict[str, Any]:
    """The state of the optimiser for the larger network; that of the new layer is empty."""
    before, places = optimiser_of(old, state)
    result, new_places = optimiser_of(net, None)
    adam, kept = before.adam.state_dict(), result.adam.state_dict()
    for name, place in new_places.items():
        old_name, new = source(name, after)
        if new:
            continue
        if net.get_parameter(name).ndim == 2 and "embed" not in name:
            result.momenta[place].copy_(before.momenta[places[old_name]])
        else:
            kept["state"][place] = adam["state"][places[old_name]]
    return {"momenta": result.momenta, "adam": kept}


def main() -> None:
    """Grow the checkpoint given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--after", type=int, default=2, help="the layer behind which the new one comes, from 0")
    options = parser.parse_args()
    state = torch.load(options.old, map_location="cpu")
    config = ModelConfig(**state["config"])
    larger = replace(config, num_hidden_layers=config.num_hidden_layers + 1)
    old, net = TinyChat(config), TinyChat(larger)
    names = [name for name, _ in net.named_parameters()]
    state["optimiser"] = grown_optimiser(old, net, state["optimiser"], options.after)
    state["net"], state["average"] = (grown(state[key], names, options.after) for key in ("net", "average"))
    state["config"] = larger.__dict__
    torch.save(state, options.new)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters in {options.new}")


if __name__ == "__main__":
    main()
