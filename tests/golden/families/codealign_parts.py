"""Cases of family ``codealign`` that build one module: quantisers and translators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.models.links.quantizer import Codebook
from opencood.models.links.sampling import Uniforms
from opencood.models.links.translated_link import TranslatedLink
from opencood.models.links.translators import Translator
from tests.golden.case import Case

Results = dict[str, Any]
# After the rule of the fill; what every case says in words under ``overrides``.
OVERRIDES = {"*._bound.bound": 1e-6, "*._temperature": 1.0}


def no_noise(logits: Tensor) -> Tensor:
    """Uniforms whose Gumbel variates are all 0."""
    return torch.full_like(logits, math.exp(-1))


def silence(model: nn.Module) -> nn.Module:
    """Switch off the noise of every quantiser and link of a module."""
    for module in [*model.modules(), *([model.link] if hasattr(model, "link") else [])]:
        if isinstance(module, (Codebook, TranslatedLink)):
            module.uniforms = no_noise
    return model


def fits(case: Case) -> bool:
    """Whether a case builds one module."""
    return case.meta.raw().get("kind") == "module"


def run(case: Case) -> Results:
    """Build it and call it."""
    return run_translator(case) if "translator" in case.meta else run_quantizer(case)


def run_quantizer(case: Case) -> Results:
    assert case.meta["overrides"]
    build = case.meta["build"]
    words = build["k (dict sizes, coarse to residual)"]
    codebook = Codebook(build["m (seg_num)"], words[0], len(words), build["channel"])
    case.fill(codebook, overrides=OVERRIDES).train()
    results: Results = {}
    zero = _coded(case, codebook, no_noise)
    results |= {f"zero/{name}": value for name, value in zero.items()}
    results |= grad_norms(codebook, case.wanted)
    draws = iter([case.tensor(f"uniform/{level}") for level in range(len(words))])
    noisy = _coded(case, codebook, lambda logits: next(draws))
    results |= {f"noisy/{name}": value for name, value in noisy.items()}
    with torch.no_grad():
        one_hot = [nn.functional.one_hot(code, words[0]).float() for code in zero["codes"]]
        results["get_feature_onehot"] = codebook.get_feature(one_hot)
    assert torch.equal(codebook.get_feature(zero["codes"]), results["get_feature_onehot"])
    results["encode_level0_argmin"] = zero["codes"][0]
    return results


def _coded(case: Case, codebook: Codebook, uniforms: Uniforms) -> Results:
    codebook.zero_grad()
    codebook.uniforms = uniforms
    x = case.tensor("x").requires_grad_()
    coded = codebook(x)
    # the loss stops at x, so what reaches it comes back through the decoded cells
    coded.loss.backward()
    return {
        "feature": coded.feature,
        "codes": coded.codes,
        "logits": coded.logits,
        "loss": coded.loss,
        "grad_norm_x": x.grad.norm(),
    }


def run_translator(case: Case) -> Results:
    assert case.meta["call"]
    section = case.meta["translator"]
    module = Translator(section["core_method"], section["args"])
    case.fill(module).eval()
    x = case.tensor("x").requires_grad_()
    y = module(x, "m3")
    (y * case.tensor("w")).sum().backward()
    results = {"y": y, "grad_norm_x": x.grad.norm(), **grad_norms(module, case.wanted)}
    with torch.no_grad():
        return {**results, "y_m1": module(x, "m1")}


def grad_norms(module: nn.Module, wanted: Mapping[str, Any]) -> Results:
    """L2 norms of the gradients below every wanted prefix, a shared parameter under its first name."""
    results = {}
    for key in wanted:
        head, _, prefix = key.partition("/")
        if head == "grad_norm":
            below = [
                parameter.grad
                for name, parameter in module.named_parameters()
                if (name == prefix or name.startswith(f"{prefix}.")) and parameter.grad is not None
            ]
            results[key] = torch.stack([g.norm() for g in below]).norm() if below else torch.zeros(())
    return results
