"""Exact mode under test: with a model that keeps it, and with providers that do not."""

import asyncio
import json

import pytest

from abstractllm.cli.parity import PROMPTS, WAYS, check_parity
from abstractllm.errors import GenerationError, UnsupportedFeatureError
from abstractllm.providers.base import BaseProvider
from abstractllm.registry import register_provider
from abstractllm.types import GenerateResponse, TokenLogprob


class Company(BaseProvider):
    """Says whether it answers others at the same time, unless the request is exact; `broken` ones say it always.

    `quiet` ones say it in the log-probabilities only.
    """

    name = "company"
    parameters = frozenset({"max_tokens", "temperature", "seed", "logprobs", "deterministic"})
    settings = frozenset({"broken", "quiet"})
    running = 0

    async def _astream(self, request, call):
        self.running += 1
        try:
            await asyncio.sleep(0)  # the others come
            crowded = self.running > 1 and (self.get_param("broken") or not request.deterministic)
            quiet = self.get_param("quiet")
            text = "with others" if crowded and not quiet else "alone"
            yield GenerateResponse(text, logprobs=(TokenLogprob(text, -2.0 if crowded else -1.0, b""),))
            yield GenerateResponse(finish_reason="stop")
        finally:
            self.running -= 1


class Ailing(Company):
    """Fails in company."""

    name = "ailing"

    async def _astream(self, request, call):
        if self.running:
            raise GenerationError("too much company")
        async for delta in super()._astream(request, call):
            yield delta


@pytest.fixture(autouse=True)
def _providers():
    register_provider("company", Company, replace=True)
    register_provider("ailing", Ailing, replace=True)


TOTAL = len(PROMPTS) * len(WAYS)


def test_exact_mode_that_holds(run):
    result = run("doctor", "--parity", "company")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"With deterministic=True, {TOTAL} of {TOTAL} answers have the same text alone and in company, "
        f"{TOTAL} the same log-probabilities too.",
        f"Without it, which promises nothing, 0 of {TOTAL} answers have the same text alone and in company, "
        "0 the same log-probabilities too.",
        "Exact mode holds.",
    ]


def test_exact_mode_that_does_not_hold(run):
    result = run("doctor", "--parity", "company?broken=true")
    assert result.exit_code == 1
    assert result.stdout.count("! ") == TOTAL
    assert (
        "! greedy: What is the capital of France?\n    alone:      alone\n    in company: with others\n"
        in result.stdout
    )
    assert result.stdout.endswith("Exact mode does not hold on this machine.\n")


def test_json(run):
    result = run("doctor", "--parity", "company?broken=true", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["ok"], report["model"], report["answers"]) == (False, "company?broken=true", TOTAL)
    assert len(report["exact"]) == len(report["usual"]) == TOTAL
    assert report["exact"][1] == {
        "prompt": PROMPTS[0],
        "way": "seeded",
        "alone": "alone",
        "in_company": "with others",
        "same_text": False,
    }


def test_equal_texts_with_other_log_probabilities_are_not_the_same(run):
    result = run("doctor", "--parity", "company?broken=true&quiet=true")
    assert result.exit_code == 1
    assert result.stdout.count("    the same text, other log-probabilities\n") == TOTAL
    assert f"{TOTAL} of {TOTAL} answers have the same text alone and in company, 0 the same" in result.stdout


def test_an_error_of_the_company_is_told(run):
    result = run("doctor", "--parity", "ailing")
    assert (result.exit_code, result.stderr) == (6, "error: [ailing] too much company\n")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_provider_without_exact_mode(run, arguments):
    result = run("doctor", "--parity", "echo", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "echo has no exact mode" in result.stderr


def test_what_else_is_missing_is_told_as_it_is():
    class Blind(Company):
        name = "blind"
        parameters = Company.parameters - {"logprobs"}

    register_provider("blind", Blind, replace=True)
    with pytest.raises(UnsupportedFeatureError) as caught:
        check_parity("blind")
    assert caught.value.feature == "logprobs"


def test_the_model_that_ships():
    found = check_parity("mlx", texts=("What is the capital of France?",), max_tokens=6)
    assert (found.holds, found.answers) == (True, 2)
