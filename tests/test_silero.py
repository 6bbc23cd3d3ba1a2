"""Silero's voice activity detector, one step at a time: a recurrent network in use."""

from pathlib import Path

import numpy as np
import pytest

from tersor.compiler import compile, load_model

RATE, STEP, CONTEXT = 16_000, 512, 64
ZERO = np.zeros((2, 1, 128), np.float32)


def murmur(seconds, seed):
    """Draw vowels of a changing pitch with pauses between them, and noise under all."""
    random = np.random.default_rng(seed)
    sound, at = random.normal(0, 0.002, seconds * RATE), 0
    while at < len(sound):
        time = np.arange(min(int(RATE * random.uniform(0.15, 0.6)), len(sound) - at)) / RATE
        if random.random() < 0.55:
            pitch = random.uniform(90, 240) * (1 + 0.08 * np.sin(2 * np.pi * random.uniform(2, 6) * time))
            phase = 2 * np.pi * np.cumsum(pitch) / RATE
            formants = [random.uniform(low, high) for low, high in ((300, 850), (900, 2300), (2300, 3200))]
            for harmonic in range(1, 30):
                distance = (harmonic * pitch.mean() - np.array(formants)) / (90, 120, 180)
                strength = ((1, 0.6, 0.3) / (1 + distance**2)).sum() / harmonic**0.3
                sound[at : at + len(time)] += 0.2 * strength * np.sin(harmonic * phase)
        at += len(time)
    return sound.astype(np.float32)


def frames(sound):
    """Cut into steps, each with the end of the one before it."""
    steps = sound[: len(sound) // STEP * STEP].reshape(-1, STEP)
    before = np.concatenate([np.zeros((1, CONTEXT), np.float32), steps[:-1, -CONTEXT:]])
    return np.concatenate([before, steps], axis=1)[:, None]


def listen(run, sound):
    """Run over the frames with the state carried on; give the probabilities and what each step read."""
    state, probabilities, read = ZERO, [], []
    for frame in frames(sound):
        read.append({"input": frame, "state": state})
        probability, state = run(read[-1])
        probabilities.append(probability.item())
    return np.array(probabilities), read


@pytest.mark.slow
def test_int8_hears_what_fp32_hears():
    package = pytest.importorskip("silero_vad")
    path = Path(package.__file__).parent / "data" / "silero_vad_openvino_16k.onnx"
    model = load_model(path)  # compared with a reference executor on the way
    _, data = listen(model.float_runner, murmur(8, seed=1))
    compiled = compile(model, data, "int8", calibration_samples=250, measure=False)
    assert {layer.scheme for layer in compiled.report.layers} == {"int8"}
    sound = murmur(17, seed=2)
    exact, _ = listen(model.float_runner, sound)
    rounded, _ = listen(compiled, sound)
    assert len(exact) > 500
    assert 0.01 < np.mean(exact > 0.5) < 0.99
    assert np.mean((exact > 0.5) == (rounded > 0.5)) >= 0.95
    assert np.mean(np.abs(exact - rounded)) < 0.05
