"""`meltproof models`: what an operator is told of a checkpoint, and what is written for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve_app.__main__ import main
from serve_app.config.errors import ConfigError
from serve_app.operate.application_edit import with_application
from serve_app.operate.checking import check_file
from serve_app.operate.config_diff import changes
from serve_app.operate.model_edit import with_model
from tests.stages.checkpoint_folders import FLUX, janus_folder, pipeline_folder

ROOT = Path(__file__).resolve().parents[2]
SEPARATE = ROOT / "configs/separate-models.yaml"
CONFIGS = sorted({*(ROOT / "configs").glob("*.yaml")} - {SEPARATE})
MODEL = {"name": "flux", "family": "paced", "decoder": {"slots": 3}}


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    return pipeline_folder(tmp_path / "FLUX.1-dev", "FluxPipeline", FLUX)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "laptop.yaml"
    path.write_bytes((ROOT / "configs/laptop.yaml").read_bytes())
    return path


def test_check_says_what_a_folder_holds_and_can_do(
    flux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "check", str(flux), "--memory-gib", "80"]) == 0
    told = capsys.readouterr().out
    for said in (
        f"{flux}: ok",
        "diffusers: FluxPipeline (flux)",
        "can           generate, edit, inpaint, LoRA",
        "cannot        references, control, negative prompt",
        "1024x1024 unless asked; width and height divisible by 16",
        "512 KiB of a render of 1024x1024",
        "each decoder  144 bytes as stored, 96 bytes in bfloat16",
        "about 148 slots of 1024x1024 fit (estimate)",
        "slots = (0.9 x 80 GiB - weights 96 bytes - a decode 1.66 GiB) / 486 MiB a slot",
    ):
        assert said in told
    rows = [line.split() for line in told.splitlines()]
    assert [
        "vae",
        "AutoencoderKL",
        "72",
        "F32",
        "48",
        "bytes,",
        "F16",
        "24",
        "bytes",
        "decoder",
    ] in (rows)


def test_what_is_refused_is_said_on_standard_error_and_in_the_exit_code(
    flux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (flux / "evil\x1b[31m.bin").touch()
    (flux / "vae/config.json").unlink()
    assert main(["models", "check", str(flux)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"{flux}/evil?[31m.bin: is a pickle, which can run code when it is read; convert it to "
        "safetensors and delete it",
        f"{flux}/vae: has no config.json; download it",
    ]


def test_add_writes_a_model_that_check_accepts(
    flux: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.chmod(0o640)
    before = yaml.safe_load(config.read_text())["applications"][0]["args"]
    assert main(["models", "add", str(flux), "--to", str(config), "--memory-gib", "80"]) == 0
    told = capsys.readouterr()
    assert "+        - name: flux.1-dev" in told.out
    assert "sk-local" not in told.out
    assert config.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in config.parent.iterdir()) == ["FLUX.1-dev", "laptop.yaml"]
    args = yaml.safe_load(config.read_text())["applications"][0]["args"]
    first, added = args.pop("models")
    assert args | {"model": first} == before
    assert added == {
        "name": "flux.1-dev",
        "family": "diffusers",
        "options": {"weights": str(flux), "dtype": "bfloat16"},
        "size": "1024x1024",
        "decoder": {"slots": 64, "replicas": 2, "num_cpus": 0.5},
    }
    assert main(["check", str(config), "--cpus", "64"]) == 0
    assert main(["models", "list", str(config)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [
        *("meltproof", "/", "default/flux.1-dev", "flux.1-dev", "diffusers", str(flux)),
        *("1024x1024", "2", "x", "64"),
    ] in lines
    assert main(["models", "add", str(flux), "--to", str(config)]) == 2
    assert "has a model 'flux.1-dev' already; say --name" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    flux: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config.read_bytes()
    arguments = ["--name", "fast", "--dry-run"]
    assert main(["models", "add", str(flux), "--to", str(config), *arguments]) == 0
    assert "+        - name: fast" in capsys.readouterr().out
    assert config.read_bytes() == before


def test_what_a_link_names_is_edited(tmp_path: Path, flux: Path, config: Path) -> None:
    link = tmp_path / "current.yaml"
    link.symlink_to(config)
    assert main(["models", "add", str(flux), "--to", str(link)]) == 0
    assert link.is_symlink()
    assert "flux.1-dev" in config.read_text()


def test_janus_gets_as_many_slots_as_its_decoder(tmp_path: Path, config: Path) -> None:
    hub = tmp_path / "models--deepseek-community--Janus-Pro-1B/snapshots"
    hub.mkdir(parents=True)
    path = janus_folder(hub / "0f1e2d")
    assert main(["models", "add", str(path), "--to", str(config), "--memory-gib", "24"]) == 0
    [_, model] = yaml.safe_load(config.read_text())["applications"][0]["args"]["models"]
    assert (model["name"], model["size"]) == ("janus-pro-1b", "384x384")
    assert model["options"]["slots"] == model["decoder"]["slots"] == 60
    (path / "preprocessor_config.json").unlink()
    assert main(["models", "check", str(path)]) == 1


def test_what_does_not_fit_is_not_added(
    flux: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config.read_bytes()
    assert main(["models", "add", str(flux), "--to", str(config), "--memory-gib", "1"]) == 1
    assert "does not fit 1 GiB: slots = (0.9 x 1 GiB - " in capsys.readouterr().err
    assert config.read_bytes() == before


@pytest.mark.parametrize("wrong", [["--name", "A b"], ["--memory-gib", "0"], []])
def test_wrong_arguments_are_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["models", "add", "folder", *wrong])
    assert ended.value.code == 2
    assert (wrong[0] if wrong else "--to") in capsys.readouterr().err


def test_a_config_that_cannot_be_written_stays_as_it_is(
    flux: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.with_name("laptop.yaml.new").touch()
    before = config.read_bytes()
    assert main(["models", "add", str(flux), "--to", str(config)]) == 2
    assert "laptop.yaml.new: cannot be written: File exists" in capsys.readouterr().err
    assert config.read_bytes() == before


@pytest.mark.parametrize("path", CONFIGS, ids=[path.name for path in CONFIGS])
def test_every_sample_takes_a_model_and_keeps_its_comments(path: Path, tmp_path: Path) -> None:
    text, edited = path.read_text(), tmp_path / path.name
    for number in range(len(yaml.safe_load(text)["applications"])):
        edited.write_text(with_model(text, number, MODEL, path.name))
        args = yaml.safe_load(edited.read_text())["applications"][number]["args"]
        assert args["models"][-1] == MODEL
        check_file(str(edited))
        comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
        kept = [line.partition("#")[2] for line in edited.read_text().splitlines() if "#" in line]
        assert kept == comments


def test_a_second_model_runs_where_the_first_one_does() -> None:
    text = (ROOT / "configs/cluster.yaml").read_text()
    edited = with_model(text, 0, MODEL, "cluster.yaml")
    options = {one["name"]: one for one in yaml.safe_load(edited)["applications"][0]["deployments"]}
    assert list(options) == [
        *("Gateway", "Dispatcher-meltproof-emoji", "Decoder-meltproof-emoji", "Dispatcher-flux"),
    ]
    first, added = options["Dispatcher-meltproof-emoji"], options["Dispatcher-flux"]
    assert added == first | {"name": "Dispatcher-flux"}
    assert "user_config: *live" in edited.partition("name: Dispatcher-flux")[2]


HEAD = "applications:\n- import_path: a\n  args:\n"
LAYOUTS = {
    "no end of line": f"{HEAD}    model:\n      name: x",
    "line ends of Windows": f"{HEAD}    model:\n      name: x\n# h\nx: 1\n".replace("\n", "\r\n"),
    "a model in braces": f"{HEAD}    model: {{name: x}}  # why\n    lane: l\n",
    "a quoted key, an anchor": f'{HEAD}    "model" : &m  # why\n\n      # so\n      name: x\n',
    "a text like a comment": f"{HEAD}    model:\n      name: x\n      size: |\n       # b\n",
    "a list already": f"{HEAD}    models:\n    - name: x\n      # of x\n    # of all\n\nx: 1\n",
    "an alias": f"x: &m {{name: y}}\n{HEAD}    model: *m\n    lane: l\n",
    "options in line": f"{HEAD}    model: {{name: x}}\n  deployments:\n"
    "  - {name: Dispatcher, num_replicas: 2}\n  - name: Gateway\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_in_block_style_is_edited(text: str) -> None:
    edited = with_model(text, 0, MODEL, "a.yaml")
    before, after = (yaml.safe_load(one)["applications"][0] for one in (text, edited))
    first = before["args"].get("models") or [before["args"]["model"]]
    assert after["args"]["models"] == [*first, MODEL]
    assert ("\n" in edited.replace("\r\n", "")) is ("\r\n" not in text)
    if "deployments" in before:
        assert after["deployments"][2] == {"name": "Dispatcher-flux", "num_replicas": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("applications: [{import_path: a, args: {model: {name: x}}}]\n", "applications.0: is laid"),
        (f"{HEAD}    models: [{{name: x}}]\n", "args.models: must be a list with dashes"),
        (f"{HEAD}    model:\n      size: 1x1\n", "args.model.name: must be written out"),
        (f"{HEAD}    lane: l\n", "args.model.name: must be written out"),
        (f"x: &x {{model: {{name: x}}}}\n{HEAD}    <<: *x\n", "args.model: must be written out"),
    ],
)
def test_other_layouts_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^a\.yaml: ") as refused:
        with_model(text, 0, MODEL, "a.yaml")
    assert said in str(refused.value)


def test_the_application_is_named(
    flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lanes.yaml"
    path.write_bytes((ROOT / "configs/two-lanes.yaml").read_bytes())
    arguments = ["models", "add", str(flux), "--to", str(path), "--application"]
    assert main([*arguments, "web"]) == 2
    assert "--application: is not 'web', but: chat, api" in capsys.readouterr().err
    assert main([*arguments, "api"]) == 0
    chat, api = (one["args"] for one in yaml.safe_load(path.read_text())["applications"])
    assert [one["name"] for one in api["models"]] == ["meltproof-paced", "flux.1-dev"]
    assert "models" not in chat


def test_beside_applications_apart_a_model_becomes_one_of_its_own(
    flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, text = tmp_path / "models.yaml", SEPARATE.read_text()
    config.write_text(text)
    before, _ = check_file(str(config))
    assert main(["models", "add", str(flux), "--to", str(config), "--memory-gib", "80"]) == 0
    assert "sk-local" not in capsys.readouterr().out
    after, file = check_file(str(config))
    photo, added = after["applications"][1], after["applications"][3]
    assert after | {"applications": after["applications"][:3]} == before
    own = {
        "model": {
            "name": "flux.1-dev",
            "family": "diffusers",
            "options": {"weights": str(flux), "dtype": "bfloat16"},
            "size": "1024x1024",
        },
        "decoder": {"num_cpus": 0.3, "slots": 64},
    }
    assert added == {
        "name": "flux.1-dev",
        "route_prefix": None,
        "import_path": "serve_app.app:model",
        "args": own | {name: photo["args"][name] for name in photo["args"].keys() - own.keys()},
    }
    edited = config.read_text()
    assert edited.startswith(text), "all that is shared is said by the anchors that were there"
    assert edited.count("ledger: *ledger") == 1 + text.count("ledger: *ledger")
    assert [one.queue for one in file.applications[3].models()] == ["default/flux.1-dev"]
    running = {
        app["name"]: {"deployed_app_config": app, "status": "RUNNING", "source": "declarative"}
        for app in before["applications"]
    }
    [change] = changes({"applications": running}, after)
    assert change.said() == "adds application flux.1-dev"
    assert main(["models", "list", str(config)]) == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[3] for row in rows] == ["photo", "sketch", "flux.1-dev"]
    for taken in ("sketch", "gateway"):
        assert main(["models", "add", str(flux), "--to", str(config), "--name", taken]) == 2
        assert f"{taken!r} already; say --name" in capsys.readouterr().err


LIVE = """\
    deployments:
      - name: Gateway
        user_config:
          tiers: {free: {weight: 2}}
          limits: {images: 4}
"""


def test_the_first_model_of_a_gateway_gets_what_is_live_for_its_lane(tmp_path: Path) -> None:
    text = SEPARATE.read_text().partition("  - name: photo")[0]
    config = tmp_path / "models.yaml"
    config.write_text(with_application(text + LIVE, 0, MODEL, "models.yaml"))
    document, _ = check_file(str(config))
    gateway, added = document["applications"]
    shared = ("ledger", "blobs", "tiers")
    assert added["args"] == {
        "model": {"name": "flux", "family": "paced"},
        "decoder": {"slots": 3},
        **{name: gateway["args"][name] for name in shared},
    }
    live = {"tiers": {"free": {"weight": 2}}}
    assert added["deployments"] == [{"name": "Dispatcher", "user_config": live}]


def test_a_further_model_runs_where_the_other_one_does(tmp_path: Path) -> None:
    options = {"name": "Dispatcher", "ray_actor_options": {"num_cpus": 0.5}}
    document = yaml.safe_load(SEPARATE.read_text())
    live = {"qualities": {"low": 1}}
    document["applications"][1]["deployments"] = [options | {"user_config": live}]
    document["applications"][1]["runtime_env"] = {"env_vars": {"A": "b"}}
    text = yaml.safe_dump(document, sort_keys=False)
    config = tmp_path / "models.yaml"
    config.write_text(with_application(text, 1, MODEL, "models.yaml"))
    added = check_file(str(config))[0]["applications"][3]
    assert (added["deployments"], added["runtime_env"]) == ([options], {"env_vars": {"A": "b"}})


def test_applications_in_braces_are_refused() -> None:
    text = "applications: [{name: a, import_path: serve_app.app:gateway}]\n"
    with pytest.raises(ConfigError, match=r"^a\.yaml: applications: must be a list with dashes"):
        with_application(text, 0, MODEL, "a.yaml")


def test_as_an_operator_runs_it(flux: Path, config: Path) -> None:
    command = [sys.executable, "-m", "serve_app", "models"]
    found = subprocess.run(
        [*command, "check", str(flux)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"{flux}: ok\nfamily        diffusers: FluxPipeline (flux)\n")
    os.truncate(flux / "vae/diffusion_pytorch_model.safetensors", 100)
    found = subprocess.run(
        [*command, "add", str(flux), "--to", str(config)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "is cut off inside of its header; copy it again" in found.stderr
