"""push-to-hub and load-from-hub over HTTP, with a small hub of this machine in place of the Hugging Face hub."""

import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml
from small_hub import SmallHub
from zoo_helpers import TESTS, command, frames, refusal

from sb3_ppo_variants import AdaptiveClipPPO
from sb3_ppo_variants.evaluation import knows_masks
from sb3_ppo_variants.registry import get_algorithm
from sb3_ppo_variants.zoo import register

MODEL = ["--algo", "adaptive_clip_ppo", "--env", "CartPole-v1"]
ME = ["-orga", "me"]
SMALL = ["n_steps:16", "n_envs:2", "batch_size:32", "n_epochs:1"]


def use_hub(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which is read at import."""
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    _, path = template.split("/{repo_id}")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}{path}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallHub]:
    server = SmallHub()
    use_hub(server.url, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.setenv("TRUST_REMOTE_CODE", "True")
    yield server
    server.shutdown()


def test_a_model_is_pushed_with_film_and_card_and_comes_back(
    hub: SmallHub, cartpole_logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("push-to-hub", *MODEL, "-f", cartpole_logs, *ME, "-n", 20, "-m", "First")
    files = hub.repos["me/adaptive_clip_ppo-CartPole-v1"]
    assert {"adaptive_clip_ppo-CartPole-v1.zip", "config.yml", "args.yml", "results.json", "replay.mp4"} <= files.keys()
    Path("replay.mp4").write_bytes(files["replay.mp4"])
    assert frames(Path("replay.mp4")).std() > 10

    card = files["README.md"].decode()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["model-index"][0]["name"] == "AdaptiveClipPPO"
    assert [yaml.safe_load(content.split("---")[1]) for content in hub.cards] == [yaml.safe_load(metadata)]
    assert "ppo-variants enjoy --algo adaptive_clip_ppo --env CartPole-v1" in text
    assert 'pip install "sb3-ppo-variants[zoo]"' in text
    assert "python -m rl_zoo3" not in text

    command("load-from-hub", *MODEL, *ME, "-f", "loaded")
    assert "No normalization file" in capsys.readouterr().out
    run = Path("loaded/adaptive_clip_ppo/CartPole-v1_1")
    assert AdaptiveClipPPO.load(run / "CartPole-v1.zip").num_timesteps == 512
    command("enjoy", *MODEL, "-f", "loaded", "--no-render", "-n", 600)
    assert "Mean reward" in capsys.readouterr().out


def test_enjoy_downloads_a_model_without_statistics(
    hub: SmallHub, cartpole_logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("push-to-hub", *MODEL, "-f", cartpole_logs, "-orga", "sb3", "--no-render", "-n", 20)
    command("enjoy", *MODEL, "--no-render", "-n", 600)
    output = capsys.readouterr().out
    assert "No normalization file" in output
    assert "Mean reward" in output


@pytest.mark.filterwarnings("error:.*found in sys.modules:RuntimeWarning")
def test_load_from_hub_runs_without_a_warning(hub: SmallHub) -> None:
    register()
    assert "rl_zoo3.load_from_hub" in sys.modules  # what runpy warns of
    assert "404" in refusal("load-from-hub", *MODEL, *ME, "-f", "loaded")


def test_statistics_and_masks_go_with_the_model(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)
    model = ["--algo", "maskable_spo", "--env", "OneValidAction-v0"]
    options = ["--gym-packages", "masked_env", "-n", 64, "--eval-freq", -1, "-params", *SMALL, "normalize:True"]
    command("train", *model, *options)
    assert knows_masks(get_algorithm("maskable_spo").cls)
    command("push-to-hub", *model, "-f", "logs", *ME, "--no-render")
    assert b'"mean_reward": 10.0' in hub.repos["me/maskable_spo-OneValidAction-v0"]["results.json"]
    command("load-from-hub", *model, *ME, "-f", "loaded")
    run = Path("loaded/maskable_spo/OneValidAction-v0_1/OneValidAction-v0")
    original = Path("logs/maskable_spo/OneValidAction-v0_1/OneValidAction-v0/vecnormalize.pkl")
    assert (run / "vecnormalize.pkl").stat().st_size == pytest.approx(original.stat().st_size, rel=0.1)


def test_what_the_hub_does_not_have(hub: SmallHub) -> None:
    assert "404" in refusal("load-from-hub", *MODEL, *ME, "-f", "loaded")
    assert not Path("loaded").exists()


def test_a_download_must_be_trusted(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUST_REMOTE_CODE")
    assert "TRUST_REMOTE_CODE" in refusal("load-from-hub", *MODEL, *ME, "-f", "loaded")


@pytest.mark.parametrize("name", ["push-to-hub", "load-from-hub", "enjoy"])
def test_no_network(name: str, cartpole_logs: Path, hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub("http://127.0.0.1:9", monkeypatch)  # where nobody listens
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # it tries six times
    options = {
        "push-to-hub": ["-f", cartpole_logs, *ME, "--no-render"],
        "load-from-hub": ["-f", "loaded", *ME],
        "enjoy": ["--no-render"],
    }
    message = refusal(name, *MODEL, *options[name])
    assert "hub" in message.lower()
