"""Which pipeline classes of diffusers are run, and what each needs beyond its own code.

Plain data: no tensor library is imported here, so that a gateway and a command line can read it.
A class that is not listed is refused by name: what it would need has not been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LORAS_LOADED = 8
"""In memory at once, unless the option of that name says otherwise."""


class Task(StrEnum):
    """What a render asks for."""

    DRAW = "draw"
    """From words alone."""
    CHANGE = "change"
    """A source as a whole (img2img)."""
    REDRAW = "redraw"
    """The part of a source that its mask names (inpaint)."""
    REFER = "refer"
    """With reference pictures that the model looks at."""
    CONTROL = "control"
    """Along a control picture: edges, depth, poses."""


class Guidance(StrEnum):
    """How classifier-free guidance reaches the model."""

    PAIRED = "paired"
    """Rows with and without the prompt, in one forward."""
    TWO_FORWARDS = "two_forwards"
    EMBEDDED = "embedded"
    """A distilled model takes the scale as an input; there is no negative prompt."""


@dataclass(frozen=True, slots=True)
class MergeRule:
    """What merging calls of several renders needs to know of a model's arguments by name. All
    others: tensors are concatenated over the batch, dicts and lists of tensors entry by entry, and
    what is not a tensor must be equal."""

    shared: frozenset[str] = frozenset()
    """Tensors without a batch dimension that are the same for all renders of one size."""
    ragged: Mapping[str, str] = field(default_factory=dict)
    """Text [rows, length, width] of differing lengths, and the argument with its mask: padded, and
    a mask is made up where a call brings none."""
    per_row: frozenset[str] = frozenset()
    """Lists with one entry for each row."""
    answers_per_row: bool = False
    """A list in the answer has one entry for each row."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the pipeline classes around one kind of denoiser have in common."""

    guidance: Guidance
    text: tuple[str, ...]
    """Call arguments that hold a prompt; with guidance there is `negative_<name>` of each."""
    encoded: tuple[str, ...]
    """What the pipeline's `encode_prompt` returns, in order; "" for what is not needed. Negative
    names among them: one call encodes both."""
    size_multiple: int
    """Pixels by which width and height must be divisible."""
    optional_text: tuple[str, ...] = ()
    """Those that a prompt may come without."""
    merge: MergeRule = field(default_factory=MergeRule)
    denoisers: tuple[str, ...] = ("transformer",)
    """Components whose forwards are merged."""
    guidance_argument: str = "guidance_scale"
    guidance_off: float = 1.0
    """The scale at which there is no guidance; 0.0 where a pipeline counts from the answer to the
    prompt instead of from the one to nothing."""
    strength_rounds_up: bool = True
    """How its pipelines count a part of a pass, see region.changed_passes."""
    listed_text: bool = False
    """Prompts are handed over as lists of one tensor for each row."""

    @property
    def negative(self) -> tuple[str, ...]:
        """Call arguments that hold a negative prompt."""
        if self.guidance is Guidance.EMBEDDED:
            return ()
        return tuple(f"negative_{name}" for name in self.text)


@dataclass(frozen=True, slots=True)
class PipelineClass:
    """One pipeline class."""

    architecture: str
    tasks: frozenset[Task]
    arguments: Mapping[str, object] = field(default_factory=dict)
    """Handed to every call."""
    references_max: int = 0
    """How many pictures it looks at, or is controlled by."""
    control_argument: str = "image"
    """Where it takes the picture that controls it."""
    encoder_pixels: int = 0
    """Of each reference as its text encoder sees it; 0 for one that reads words alone."""


_CLIP = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_CLIP, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = (
    "prompt_embeds",
    "prompt_attention_mask",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
)
_IDS = frozenset({"txt_ids", "img_ids"})
_PAIRED, _TWO, _EMBEDDED = Guidance.PAIRED, Guidance.TWO_FORWARDS, Guidance.EMBEDDED

_FLUX = Architecture(
    _EMBEDDED,
    ("prompt_embeds", "pooled_prompt_embeds"),
    ("prompt_embeds", "pooled_prompt_embeds", ""),
    16,
    merge=MergeRule(shared=_IDS),
    denoisers=("transformer", "controlnet"),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "sd": Architecture(
        _PAIRED,
        ("prompt_embeds",),
        _CLIP,
        8,
        denoisers=("unet", "controlnet"),
        strength_rounds_up=False,
    ),
    "sdxl": Architecture(
        _PAIRED,
        ("prompt_embeds", "pooled_prompt_embeds"),
        _POOLED,
        8,
        denoisers=("unet", "controlnet"),
        strength_rounds_up=False,
    ),
    "lcm": Architecture(
        _EMBEDDED, ("prompt_embeds",), ("prompt_embeds", ""), 8, denoisers=("unet",)
    ),
    "sd3": Architecture(
        _PAIRED,
        ("prompt_embeds", "pooled_prompt_embeds"),
        _POOLED,
        16,
        denoisers=("transformer", "controlnet"),
    ),
    "flux": _FLUX,
    "flux-fill": _FLUX,
    "bria": Architecture(
        _PAIRED, ("prompt_embeds",), (*_CLIP, ""), 16, merge=MergeRule(shared=_IDS)
    ),
    "flux2": Architecture(_EMBEDDED, ("prompt_embeds",), ("prompt_embeds", ""), 16),
    "flux2-klein": Architecture(_TWO, ("prompt_embeds",), ("prompt_embeds", ""), 16),
    "qwen-image": Architecture(
        _TWO,
        ("prompt_embeds", "prompt_embeds_mask"),
        ("prompt_embeds", "prompt_embeds_mask"),
        16,
        optional_text=("prompt_embeds_mask",),
        merge=MergeRule(
            ragged={"encoder_hidden_states": "encoder_hidden_states_mask"},
            per_row=frozenset({"img_shapes"}),
        ),
        denoisers=("transformer", "controlnet"),
        guidance_argument="true_cfg_scale",
    ),
    "z-image": Architecture(
        _PAIRED,
        ("prompt_embeds",),
        _CLIP,
        16,
        merge=MergeRule(per_row=frozenset({"x", "cap_feats"}), answers_per_row=True),
        guidance_off=0.0,
        listed_text=True,
    ),
    "sana": Architecture(_PAIRED, ("prompt_embeds", "prompt_attention_mask"), _MASKED, 32),
    "pixart": Architecture(_PAIRED, ("prompt_embeds", "prompt_attention_mask"), _MASKED, 8),
    "lumina2": Architecture(_TWO, ("prompt_embeds", "prompt_attention_mask"), _MASKED, 16),
    "chroma": Architecture(
        _TWO,
        ("prompt_embeds", "prompt_attention_mask"),
        (
            "prompt_embeds",
            "",
            "prompt_attention_mask",
            "negative_prompt_embeds",
            "",
            "negative_prompt_attention_mask",
        ),
        16,
        merge=MergeRule(shared=_IDS),
    ),
    "cogview4": Architecture(_TWO, ("prompt_embeds",), _CLIP, 16),
    "auraflow": Architecture(_PAIRED, ("prompt_embeds", "prompt_attention_mask"), _MASKED, 16),
    "krea2": Architecture(
        _TWO,
        ("prompt_embeds", "prompt_embeds_mask"),
        ("prompt_embeds", "prompt_embeds_mask"),
        16,
        merge=MergeRule(shared=frozenset({"position_ids"})),
        guidance_off=0.0,
    ),
    "ovis-image": Architecture(
        _TWO, ("prompt_embeds",), (*_CLIP, "", ""), 16, merge=MergeRule(shared=_IDS)
    ),
    "prx": Architecture(_PAIRED, ("prompt_embeds", "prompt_attention_mask"), _MASKED, 16),
    "amused": Architecture(_PAIRED, ("prompt_embeds", "encoder_hidden_states"), (), 16),
}


def _of(
    architecture: str, *tasks: Task, references_max: int = 0, **arguments: object
) -> PipelineClass:
    return PipelineClass(architecture, frozenset(tasks), arguments, references_max)


def _seen_by_encoder(references_max: int, encoder_pixels: int) -> PipelineClass:
    return PipelineClass(
        "qwen-image",
        frozenset({Task.REFER}),
        references_max=references_max,
        encoder_pixels=encoder_pixels,
    )


def _controlled(architecture: str, argument: str = "control_image") -> PipelineClass:
    return PipelineClass(architecture, frozenset({Task.CONTROL}), {}, 1, argument)


_UNBINNED = {"use_resolution_binning": False}

CLASSES: Mapping[str, PipelineClass] = {
    "StableDiffusionPipeline": _of("sd", Task.DRAW),
    "StableDiffusionImg2ImgPipeline": _of("sd", Task.CHANGE),
    "StableDiffusionInpaintPipeline": _of("sd", Task.REDRAW),
    "StableDiffusionControlNetPipeline": _controlled("sd", "image"),
    "StableDiffusionXLPipeline": _of("sdxl", Task.DRAW),
    "StableDiffusionXLImg2ImgPipeline": _of("sdxl", Task.CHANGE),
    "StableDiffusionXLInpaintPipeline": _of("sdxl", Task.REDRAW),
    "StableDiffusionXLControlNetPipeline": _controlled("sdxl", "image"),
    "LatentConsistencyModelPipeline": _of("lcm", Task.DRAW),
    "StableDiffusion3Pipeline": _of("sd3", Task.DRAW),
    "StableDiffusion3Img2ImgPipeline": _of("sd3", Task.CHANGE),
    "StableDiffusion3InpaintPipeline": _of("sd3", Task.REDRAW),
    "StableDiffusion3ControlNetPipeline": _controlled("sd3"),
    "FluxPipeline": _of("flux", Task.DRAW),
    "FluxImg2ImgPipeline": _of("flux", Task.CHANGE),
    "FluxInpaintPipeline": _of("flux", Task.REDRAW),
    "FluxFillPipeline": _of("flux-fill", Task.REDRAW),
    "FluxControlPipeline": _controlled("flux"),
    "FluxControlNetPipeline": _controlled("flux"),
    "FluxKontextPipeline": _of("flux", Task.DRAW, Task.REFER, references_max=1, _auto_resize=False),
    "Flux2Pipeline": _of("flux2", Task.DRAW, Task.REFER, references_max=16),
    "Flux2KleinPipeline": _of("flux2-klein", Task.DRAW, Task.REFER, references_max=16),
    "QwenImagePipeline": _of("qwen-image", Task.DRAW),
    "QwenImageImg2ImgPipeline": _of("qwen-image", Task.CHANGE),
    "QwenImageInpaintPipeline": _of("qwen-image", Task.REDRAW),
    "QwenImageEditPipeline": _seen_by_encoder(1, 1024 * 1024),
    "QwenImageEditPlusPipeline": _seen_by_encoder(4, 384 * 384),
    "QwenImageControlNetPipeline": _controlled("qwen-image"),
    "ZImagePipeline": _of("z-image", Task.DRAW),
    "ZImageImg2ImgPipeline": _of("z-image", Task.CHANGE),
    "ZImageInpaintPipeline": _of("z-image", Task.REDRAW),
    "SanaPipeline": _of("sana", Task.DRAW, negative_prompt=None, **_UNBINNED),
    "PixArtSigmaPipeline": _of("pixart", Task.DRAW, negative_prompt=None, **_UNBINNED),
    "PixArtAlphaPipeline": _of("pixart", Task.DRAW, negative_prompt=None, **_UNBINNED),
    "Lumina2Pipeline": _of("lumina2", Task.DRAW),
    "ChromaPipeline": _of("chroma", Task.DRAW),
    "ChromaImg2ImgPipeline": _of("chroma", Task.CHANGE),
    "CogView4Pipeline": _of("cogview4", Task.DRAW),
    "AuraFlowPipeline": _of("auraflow", Task.DRAW),
    "Krea2Pipeline": _of("krea2", Task.DRAW),
    "BriaPipeline": _of("bria", Task.DRAW),
    "OvisImagePipeline": _of("ovis-image", Task.DRAW, negative_prompt=None),
    "PRXPipeline": _of("prx", Task.DRAW, negative_prompt=None, **_UNBINNED),
    "AmusedPipeline": _of("amused", Task.DRAW),
}


class UnknownPipeline(ValueError):
    """A pipeline class that is not in the table; the message names it and those that are."""


def pipeline_class(name: str) -> PipelineClass:
    """The row of a class; UnknownPipeline when there is none."""
    try:
        return CLASSES[name]
    except KeyError:
        known = ", ".join(sorted(CLASSES))
        raise UnknownPipeline(
            f"pipeline class {name!r} is not run; those that are: {known}"
        ) from None


def classes_by_task(name: str) -> dict[Task, str]:
    """The classes that the components of `name` serve: itself, and where it draws from words alone
    those of the same architecture that change pictures. Of other classes the denoiser is often of
    its own kind: with the channels of a mask, a reference or a control picture."""
    own = pipeline_class(name)
    found = dict.fromkeys(own.tasks, name)
    if own.tasks != {Task.DRAW}:
        return found
    for other, row in CLASSES.items():
        if row.architecture == own.architecture and row.tasks <= {Task.CHANGE, Task.REDRAW}:
            for task in row.tasks:
                found.setdefault(task, other)
    return found
