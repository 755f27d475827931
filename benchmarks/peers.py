"""Tokens per second of our two engines and of common CPU engines, in one interleaved run.

    python -m benchmarks.peers [--tokens 128] [--rounds 5] [--threads 2] [--texts 1 8] [--json]

Every contestant writes after the same prompts (the first sentences of held-out stories, as token ids), samples at the
stated temperature from the whole vocabulary, and runs on as if there were no end of text. The token-by-token peers run
the bundled story-ar, converted by ``benchmarks.conversions``; before the run each conversion must choose the same
greedy tokens as ours. Contestants take turns within a round; the figures are medians over rounds, after one round of
warm-up. With ``--texts 8`` each contestant writes eight texts at once. A contestant whose package is not installed is
left out with a line. The extra ``peers`` has all of them.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import numpy as np
import torch

import calm
from calm.hub.loading import CHECKPOINTS

from . import conversions
from .generation import openings

BASELINE, MODEL = "story-ar", "story-k4"
GREEDY = 12  # tokens on which a conversion must agree with our own model
CONTEXT = 512  # positions that a peer keeps for a text

Contestant = Callable[[list[list[int]], int, int], None]
"""Writes ``tokens`` tokens after each of several prompts of token ids, with a seed."""


class Llama:
    """llama.cpp through llama-cpp-python."""

    def __init__(self, path: Path, threads: int, texts: int):
        import llama_cpp as ll

        options: dict[str, Any] = {"n_threads": threads, "n_threads_batch": threads, "verbose": False}
        self.model = ll.Llama(str(path), n_ctx=CONTEXT, n_batch=CONTEXT, **options)
        parameters = self.model.context_params  # those of a second context, with a sequence for each text
        parameters.n_ctx, parameters.n_seq_max = CONTEXT * texts, texts
        self.together = ll.llama_init_from_model(self.model.model, parameters)

    def greedy(self, ids: list[int]) -> list[int]:
        self.model.reset()
        tokens = self.model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True)
        return [token for token, _ in zip(tokens, range(GREEDY))]

    def __call__(self, prompts: list[list[int]], tokens: int, seed: int) -> None:
        self.model.set_seed(seed)
        if len(prompts) == 1:
            stream = self.model.generate(prompts[0], temp=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
            for _, _ in zip(range(tokens), stream):
                pass
        else:
            self._together(prompts, tokens, seed)

    def _together(self, prompts: list[list[int]], tokens: int, seed: int) -> None:
        """Several sequences in one batch a step, as llama.cpp's parallel example decodes them."""
        import llama_cpp as ll

        context = self.together
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        chain = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
        ll.llama_sampler_chain_add(chain, ll.llama_sampler_init_temp(1.0))
        ll.llama_sampler_chain_add(chain, ll.llama_sampler_init_dist(seed))
        batch = ll.llama_batch_init(CONTEXT * len(prompts), 0, 1)

        def decode(rows: list[tuple[int, int, int, bool]]) -> None:
            batch.n_tokens = len(rows)
            for i, (token, position, sequence, needs_logits) in enumerate(rows):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
                batch.seq_id[i][0], batch.logits[i] = sequence, needs_logits
            if ll.llama_decode(context, batch):
                raise RuntimeError("llama.cpp could not decode the batch")

        decode([(t, p, s, p == len(ids) - 1) for s, ids in enumerate(prompts) for p, t in enumerate(ids)])
        lengths = [len(ids) for ids in prompts]
        outputs = [sum(lengths[: s + 1]) - 1 for s in range(len(prompts))]
        for step in range(tokens):
            chosen = [ll.llama_sampler_sample(chain, context, output) for output in outputs]
            decode([(token, lengths[s] + step, s, True) for s, token in enumerate(chosen)])
            outputs = list(range(len(prompts)))
        ll.llama_batch_free(batch)
        ll.llama_sampler_free(chain)


class CTranslate2:
    """CTranslate2's generator."""

    def __init__(self, path: Path, threads: int, compute: str, lm: calm.LanguageModel):
        import ctranslate2

        self.model = ctranslate2.Generator(str(path), "cpu", compute_type=compute, intra_threads=threads)
        self.names = lm.tokenizer.convert_ids_to_tokens
        self.set_seed = ctranslate2.set_random_seed

    def _generate(self, prompts: list[list[int]], tokens: int, **how: Any) -> list[list[int]]:
        results = self.model.generate_batch(
            [self.names(ids) for ids in prompts],
            min_length=tokens,
            max_length=tokens,
            include_prompt_in_result=False,
            cache_static_prompt=False,
            **how,
        )
        return [result.sequences_ids[0] for result in results]

    def greedy(self, ids: list[int]) -> list[int]:
        return self._generate([ids], GREEDY, sampling_topk=1)[0]

    def __call__(self, prompts: list[list[int]], tokens: int, seed: int) -> None:
        self.set_seed(seed)
        self._generate(prompts, tokens, sampling_topk=0, sampling_temperature=1.0)


class OnnxRuntime:
    """onnxruntime-genai's generator."""

    def __init__(self, path: Path, threads: int, lm: calm.LanguageModel):
        import onnxruntime_genai as og

        config = og.Config(str(path))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model, self.pad = og.Model(config), lm.pad_id

    def _generate(self, prompts: list[list[int]], tokens: int, **how: Any) -> list[list[int]]:
        import onnxruntime_genai as og

        longest = max(map(len, prompts))
        parameters = og.GeneratorParams(self.model)
        length = {"min_length": longest + tokens, "max_length": longest + tokens}
        parameters.set_search_options(batch_size=len(prompts), **length, **how)
        generator = og.Generator(self.model, parameters)
        generator.append_tokens(np.array([[self.pad] * (longest - len(ids)) + ids for ids in prompts], np.int32))
        for _ in range(tokens):
            generator.generate_next_token()
        return [generator.get_sequence(i)[longest:].tolist() for i in range(len(prompts))]

    def greedy(self, ids: list[int]) -> list[int]:
        return self._generate([ids], GREEDY, do_sample=False)[0]

    def __call__(self, prompts: list[list[int]], tokens: int, seed: int) -> None:
        self._generate(prompts, tokens, do_sample=True, top_k=0, top_p=1.0, temperature=1.0, random_seed=seed)


def transformers_peer(lm: calm.LanguageModel) -> Contestant:
    """transformers' ``generate`` on our own module."""

    def run(prompts: list[list[int]], tokens: int, seed: int) -> None:
        torch.manual_seed(seed)
        longest = max(map(len, prompts))
        pad = lm.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        length = {"min_new_tokens": tokens, "max_new_tokens": tokens}
        lm.llama.generate(ids, attention_mask=mask, do_sample=True, top_k=0, pad_token_id=pad, **length)

    return run


def ours(lm: calm.LanguageModel, temperature: float) -> Contestant:
    """``calm.generate``; a text that ends early is followed by another, until there are enough tokens."""

    def one(prompt: str, tokens: int, seed: int) -> None:
        count = 0
        while count < tokens:
            for step in calm.generate(lm, prompt, temperature, max_new_tokens=tokens - count, seed=seed):
                count += len(step.token_ids)
            seed += 1000

    def run(prompts: list[list[int]], tokens: int, seed: int) -> None:
        texts = [lm.detokenize(ids) for ids in prompts]
        if len(texts) == 1:
            return one(texts[0], tokens, seed)
        threads = [Thread(target=one, args=(text, tokens, seed + i)) for i, text in enumerate(texts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def contestants(threads: int, texts: int, folder: Path) -> tuple[dict[str, Contestant], list[str]]:
    """The available contestants by name, and a line for each one that is not available."""
    baseline, model = calm.load(BASELINE, "cpu"), calm.load(MODEL, "cpu")
    prompt = baseline.tokenize(openings()[0])
    expected = _greedy(baseline, prompt)
    peers: dict[str, Contestant] = {}
    left_out: list[str] = []

    def add(name: str, package: str, make: Callable[[], Any]) -> None:
        if importlib.util.find_spec(package) is None:
            left_out.append(f"{name}: the package {package} is not installed")
            return
        try:
            peer = make()
            if (greedy := peer.greedy(prompt)) != expected:
                left_out.append(f"{name}: the conversion writes {greedy}, our model {expected}")
                return
        except (
            Exception
        ) as error:  # other engines' errors share no base class; the run continues without the failed engine
            left_out.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            return
        peers[name] = peer

    def llama(kind: str) -> Llama:
        return Llama(conversions.to_gguf(baseline, folder / f"{BASELINE}-{kind}.gguf", kind), threads, texts)

    def ctranslate2(kind: str) -> CTranslate2:
        converted = conversions.to_ctranslate2(CHECKPOINTS / BASELINE, folder / f"ct2-{kind}", kind)
        return CTranslate2(converted, threads, kind, baseline)

    def onnxruntime(kind: str) -> OnnxRuntime:
        return OnnxRuntime(
            conversions.to_onnx(CHECKPOINTS / BASELINE, folder / f"onnx-{kind}", kind), threads, baseline
        )

    for kind in ("f16", "q8_0"):
        add(f"llama.cpp {kind}", "llama_cpp", partial(llama, kind))
    for kind in ("float32", "int8"):
        add(f"CTranslate2 {kind}", "ctranslate2", partial(ctranslate2, kind))
    for kind in ("fp32", "int8"):
        add(f"onnxruntime-genai {kind}", "onnxruntime_genai", partial(onnxruntime, kind))
    peers["transformers float32"] = transformers_peer(baseline)
    peers[f"{BASELINE} (ours), T = 1"] = ours(baseline, 1.0)
    for t in (1.0, 0.5):
        peers[f"{MODEL} (ours), T = {t:g}"] = ours(model, t)
    return peers, left_out


@torch.inference_mode()
def _greedy(lm: calm.LanguageModel, ids: list[int]) -> list[int]:
    output = lm.llama.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=GREEDY, eos_token_id=-1)
    return output[0, len(ids) :].tolist()


def measure(tokens: int, rounds: int, threads: int, texts: int) -> dict[str, Any]:
    """Medians of tokens a second over interleaved rounds, and each as a ratio to the first contestant."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        racers, left_out = contestants(threads, texts, Path(folder))
        lm = calm.load(BASELINE, "cpu")
        ids = [lm.tokenize(text) for text in openings()]
        rates: dict[str, list[float]] = {name: [] for name in racers}
        for number in range(rounds + 1):
            prompts = [ids[(number + i) % len(ids)] for i in range(texts)]
            for name, write in racers.items():
                start = time.perf_counter()
                write(prompts, tokens, number)
                if number:
                    rates[name].append(texts * tokens / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "texts": texts,
        "threads": threads,
        "tokens": tokens,
        "rounds": rounds,
        "tokens_per_second": medians,
        "left_out": left_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128, help="tokens a text (default: 128)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of every contestant")
    parser.add_argument("--texts", type=int, nargs="+", default=[1], help="texts at once (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    results = [measure(arguments.tokens, arguments.rounds, arguments.threads, texts) for texts in arguments.texts]
    if arguments.json:
        print(json.dumps(results))
        return
    for result in results:
        rates = result["tokens_per_second"]
        best = max((rate for name, rate in rates.items() if "ours" not in name), default=float("nan"))
        print("{texts} texts at once, {threads} threads, {tokens} tokens, medians of {rounds} rounds".format(**result))
        for name, rate in rates.items():
            print(f"{name:28} {rate:8.0f} tokens/s  {rate / best:5.2f}x the best peer")
        for line in result["left_out"]:
            print(f"left out: {line}")


if __name__ == "__main__":
    main()
