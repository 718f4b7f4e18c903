"""`meltproof check`: every problem with its line, and the proof that replicas fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaling.capacity import NodeCapacity, Reservation, shortage
from engine.precision import precision_of
from serve_app.__main__ import main
from serve_app.operate.checking import advice, check_text
from serve_app.operate.yaml_lines import line_of, repeated_keys

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = (ROOT / "configs/laptop.yaml").read_text()
DEPLOYMENTS = "    deployments:\n      - name: {}\n    args:\n"

WRONG = [
    (
        "        slots: 4",
        "        slotz: 2",
        "args.decoder.slotz: unknown key, did you mean slots?",
    ),
    ("  port: 8000", "  prot: 8000", "http_options.prot: unknown key, did you mean port?"),
    ("        slots: 4", "        slots: two", "args.decoder.slots: input should be a valid int"),
    ("          tier: free", "          tier: pro", "args.keys.0.tier: unknown tier 'pro'"),
    ("  port: 8000", "  port: 8000\n  port: 8001", "http_options.port: given twice"),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decodr"),
        "deployments.0.name: unknown deployment, did you mean Decoder?",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        autoscaling_config: {policy: {policy_function: a:B}}"),
        "applications: No module named 'a'",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        autoscaling_config: {max_replica: 2}"),
        "deployments.0.autoscaling_config.max_replica: unknown key, did you mean max_replicas?",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        autoscaling_config: {min_replicas: 4}"),
        "deployments.0.autoscaling_config: min_replicas (4) is above max_replicas (1)",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        ray_actor_options: {num_gpu: 1}"),
        "deployments.0.ray_actor_options.num_gpu: unknown key, did you mean num_gpus?",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        max_ongoing_requests: many"),
        "deployments.0.max_ongoing_requests: input should be a valid integer",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Decoder\n        user_config: {}"),
        "deployments.0.user_config: Decoder reads none",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Gateway\n        user_config: {tiers: {plus: {}}}"),
        "deployments.0.user_config: keys.0.tier: unknown tier 'free'",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Gateway\n        user_config: {tiers: {free: {weight: 3}}}"),
        "deployments: Gateway and Dispatcher have different tiers",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format(
            "Dispatcher\n        user_config: {moderation: {rules: [{actions: {blok: 0.5}}]}}"
        ),
        "deployments.0.user_config.moderation.rules.0.actions: unknown action 'blok'",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("Gateway\n        user_config: {moderation: {version: two}}"),
        "deployments.0.user_config.moderation: Gateway does not read it; give it to Disp",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("SafetyClassifier\n        user_config: {moderation: {version: two}}"),
        "deployments.0.name: SafetyClassifier is no deployment with args.safety.local: true",
    ),
    (
        "    args:\n",
        DEPLOYMENTS.format("PromptEncoder\n        num_replicas: 2"),
        "deployments.0.name: PromptEncoder is no deployment with args.encoder.local: true",
    ),
    (
        "      encoder:\n",
        "      encoder:\n        num_gpus: 0.5\n",
        "args.encoder.num_gpus: leave it out, or `local`",
    ),
    (
        "      safety:\n",
        "      safety:\n        replicas: 2\n",
        "args.safety.replicas: leave it out, or `local`",
    ),
    (
        "    args:\n",
        "    args:\n      moderation: {rules: [{actions: {block: 1.5}}]}\n",
        "args.moderation.rules.0.actions.block: must be within 0..1, not 1.5",
    ),
    (
        "    args:\n",
        "    args:\n      moderation: {rules: [{categories: [weapon], actions: {block: 1}}]}\n",
        "args.moderation.rules.0.categories: unknown category 'weapon', did you mean weapons?",
    ),
    (
        "    args:\n",
        "    args:\n      moderation: {rules: [{tiers: [gold], actions: {block: 1}}]}\n",
        "args.moderation.rules.0.tiers: unknown tier 'gold', known: free",
    ),
]


@pytest.mark.parametrize(("old", "new", "problem"), WRONG, ids=[p for _, _, p in WRONG])
def test_a_problem_has_its_line(
    old: str, new: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    assert old in LAPTOP
    file.write_text(LAPTOP.replace(old, new, 1))
    assert main(["check", str(file)]) == 1
    [line] = capsys.readouterr().out.splitlines()
    place, _, said = line.partition(": ")
    assert problem in said
    assert place.startswith(f"{file}:")
    there = file.read_text().splitlines()[int(place.rpartition(":")[2]) - 1]
    assert there.strip(" -{").partition(":")[0] in problem


def test_a_live_policy_goes_to_the_classifiers_wherever_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    live = "{}\n        user_config: {{moderation: {{version: two}}}}"
    for text, reader, other in (
        (LAPTOP, "Dispatcher", "Gateway"),
        (
            LAPTOP.replace("        local: true", "        threads: 1"),
            "SafetyClassifier",
            "Dispatcher",
        ),
    ):
        for name, code in ((reader, 0), (other, 1)):
            deployed = DEPLOYMENTS.format(live.format(name))
            file.write_text(text.replace("    args:\n", deployed, 1))
            assert main(["check", str(file), "--cpus", "8"]) == code
        assert f"{other} does not read it; give it to {reader}" in capsys.readouterr().out


def test_all_files_and_all_problems_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(LAPTOP.replace("slots: 4", "slotz: 2").replace("replicas: 2", "replicas: 0"))
    assert main(["check", str(file), "configs/none.yaml", str(ROOT / "configs/laptop.yaml")]) == 1
    told = capsys.readouterr().out
    assert [part in told for part in ("slotz", "replicas", "none.yaml", "laptop.yaml: ok")] == (
        [True] * 4
    )


@pytest.mark.parametrize(
    ("line", "said", "code"),
    [
        ("", f"model meltproof-emoji: {precision_of('auto', 'cpu')} (this machine's", 0),
        ("dtype: float32", "model meltproof-emoji: float32 (options.dtype)", 0),
        ("dtype: bfloat16", "model meltproof-emoji: bfloat16 (options.dtype)", 0),
        ("dtype: int4", "model meltproof-emoji: options: dtype must be auto, float32 or", 1),
    ],
)
def test_the_precision_of_the_embedded_model_is_said(
    line: str, said: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "laptop.yaml"
    threads = "          threads: 1\n"
    assert LAPTOP.count(threads) == 1
    path.write_text(LAPTOP.replace(threads, f"{threads}          {line}\n"))
    assert main(["check", str(path)]) == code
    assert said in " ".join(capsys.readouterr().out.split())


def test_what_does_not_fit_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    laptop = str(ROOT / "configs/laptop.yaml")
    assert main(["check", laptop, "--cpus", "0.5", "--nodes", "4"]) == 0
    assert "fits: 4 nodes have 2 CPUs" in capsys.readouterr().out
    assert main(["check", laptop, "--cpus", "0.5", "--nodes", "2"]) == 1
    assert "= 1.2, but 2 nodes offer 1" in capsys.readouterr().out


def test_an_operators_classifier_is_looked_at_on_its_own_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "config.yaml", tmp_path / "moderator"
    entry = f"{{kind: text, path: {folder}, labels: {{toxic: hate}}}}"
    text = LAPTOP.replace("      safety:\n", f"      safety:\n        classifiers: [{entry}]\n", 1)
    assert text != LAPTOP
    file.write_text(text)
    assert main(["check", str(file)]) == 1
    assert f"safety.classifiers: {folder}: does not exist" in capsys.readouterr().out
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert main(["check", str(file)]) == 1
    told = capsys.readouterr().out
    assert f"safety.classifiers: {folder}/pytorch_model.bin: is a pickle" in told
    assert f"safety.classifiers: {folder}/config.json: cannot be read" in told
    file.write_text(text.replace("127.0.0.1", "10.0.0.1"))
    assert main(["check", str(file), "--cpus", "64"]) == 0


def test_what_is_allowed_and_hardly_meant_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert main(["check", str(path), "--cpus", "64", "--nodes", "64", "--gpus", "64"]) == 0
    assert "args.gateway" not in capsys.readouterr().out
    open_to_names = LAPTOP.replace("        hosts:", "        public_url: https://a.example  #")
    (tmp_path / "config.yaml").write_text(open_to_names)
    assert main(["check", str(tmp_path / "config.yaml"), "--cpus", "64"]) == 0
    told = capsys.readouterr().out
    assert "applications.0.args.gateway.trusted_proxies" in told
    assert "applications.0.args.gateway.hosts" in told


@pytest.mark.parametrize("wrong", [["--cpus", "-1"], ["--cpus", "nan"], ["--nodes", "0"]])
def test_a_wrong_argument_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "configs/laptop.yaml", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_replica_never_spans_nodes() -> None:
    decoders = [Reservation("a", "Decoder", 3, num_cpus=1, num_gpus=2)]
    assert shortage(decoders, [NodeCapacity(4, 2)] * 3) is None
    assert "2 of 3 replicas" in (shortage(decoders, [NodeCapacity(4, 3)] * 2) or "")
    small = [*decoders, Reservation("a", "Gateway", 4, num_cpus=1, num_gpus=0)]
    assert shortage(small, [NodeCapacity(1, 2)] * 3 + [NodeCapacity(4, 0)]) is None


def test_a_line_is_found_behind_anchors_and_merges() -> None:
    text = "a: &a\n  x: 1\nb:\n  - <<: *a\n    y: 2\nc: *a\n"
    assert [line_of(text, path) for path in ("a.x", "b.0.y", "b.0.x", "c", "c.x", "b.7")] == [
        *(2, 5, 2, 6, 2, 3)
    ]
    assert repeated_keys("a: {x: 1, x: 2}\nb: [{y: 1, y: 1}]") == [
        "a.x: given twice, keep one",
        "b.0.y: given twice, keep one",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n\tb: 2\n", ":2: not YAML: found character"),
        (f"{LAPTOP}    runtime_env: {{a: 2026-01-01}}\n", "cannot be sent as JSON: Object of type"),
        (f"{LAPTOP}    runtime_env: {{a: .nan}}\n", "cannot be sent as JSON: Out of range"),
        (f"{LAPTOP}    runtime_env: &a {{a: *a}}\n", "cannot be sent as JSON: Circular"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert main(["check", str(file)]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "networks", "advised"),
    [
        ("127.0.0.1", "[127.0.0.0/8]", False),
        ("0.0.0.0", "[127.0.0.0/8]", True),
        ("10.0.0.7", '["10.0.0.0/8", "::/0"]', True),
        ("0.0.0.0", "[10.0.0.0/8]", False),
    ],
)
def test_webhooks_to_this_machine_are_for_a_loopback_file(
    host: str, networks: str, advised: bool
) -> None:
    text = LAPTOP.replace("host: 127.0.0.1\n  port", f"host: {host}\n  port")
    text = text.replace("networks: [127.0.0.0/8]", f"networks: {networks}")
    _, file = check_text(text, "laptop.yaml")
    told = [one for one in advice(file) if "webhooks.networks: names this machine's" in one]
    assert len(told) == advised
