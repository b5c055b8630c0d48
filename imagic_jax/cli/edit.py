"""`imagic edit`: edit one picture to follow one sentence, by any method, and report."""

from pathlib import Path
from typing import Any

from absl import flags

from imagic_jax.cli import method_flags
from imagic_jax.cli.flagging import Command
from imagic_jax.cli.placing import connect, define_placing, place
from imagic_jax.errors import UserError
from imagic_jax.jobs.presets import example

DEFAULT_PRESET = "flatland_imagen"
AUTO = "auto"  # of --eta


def define_model(values: flags.FlagValues) -> None:
    """Flags that say which model works, in place of the preset's."""
    flags.DEFINE_string(
        "model",
        None,
        "NAME: a built-in model, a folder or hub id of Stable Diffusion, or the stages of DeepFloyd"
        " IF joined by commas (default: the preset's)",
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "random_weights",
        False,
        "build the preset's model at its real shape with random weights: for timing, not editing",
        flag_values=values,
    )


def define_sampling(values: flags.FlagValues) -> None:
    """Flags of everything that draws pictures."""
    text = flags.DEFINE_string
    text("seeds", None, "N,N,..: seeds of the sampling noise", flag_values=values)
    text("guidance", None, "W: classifier-free guidance of the base model", flag_values=values)
    text("steps", None, "N: sampling steps of the base model", flag_values=values)
    text("negative", "", "TEXT: what the picture shall not show", flag_values=values)
    text("out", None, "DIR: output folder (default: under ./imagic_out)", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "show no progress", flag_values=values)


def define_rendering(values: flags.FlagValues) -> None:
    """Flags that `edit` and `render` share."""
    flags.DEFINE_string(
        "eta",
        None,
        "E,E,..: amounts of Imagic's edit, 0 = the picture, 1 = the text; auto draws a sweep and"
        " chooses the largest that keeps the picture",
        flag_values=values,
    )
    flags.DEFINE_string(
        "metric_weights",
        None,
        "DIR: weights of CLIP and LPIPS, which --eta=auto wants for photographs",
        flag_values=values,
    )
    method_flags.define_strength(values)
    define_sampling(values)
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "throw away another job's results in the same folder",
        flag_values=values,
    )


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text("image", None, "FILE: the picture (default: a shipped example)", flag_values=values)
    text("text", None, "TEXT: what the edited picture shall show", flag_values=values)
    text(
        "inputs",
        None,
        "FILE: a list in place of --image and --text: JSON lines with image, text and, if they"
        " like, eta (or strength), seeds, seed, out; or a folder in TEdBench's layout",
        flag_values=values,
    )
    text(
        "method",
        "imagic",
        "NAME: the editing method; `imagic methods` lists them",
        flag_values=values,
    )
    method_flags.define_beside(values)
    define_model(values)
    define_rendering(values)
    text("seed", None, "N: seed of the fit", flag_values=values)
    text(
        "noise_batch",
        None,
        "B: noise draws per optimisation step, of every loop (default: the preset's)",
        flag_values=values,
    )
    text(
        "crop",
        "center",
        "HOW: square of a picture that is not square: center, pad or LEFT,TOP,SIDE",
        flag_values=values,
    )
    text("size", None, "N: working size in pixels (default: the model's)", flag_values=values)
    define_observers(values)
    switch = flags.DEFINE_boolean
    switch(
        "paste_back",
        False,
        "also write each result pasted back into the whole picture, where its square was cut out",
        flag_values=values,
    )
    switch("keep_checkpoints", False, "keep the optimizers' states when done", flag_values=values)
    switch(
        "check_memory",
        True,
        "refuse an edit that cannot fit into memory or on the disk; --nocheck_memory goes on all"
        " the same",
        flag_values=values,
    )
    define_placing(values)


def define_observers(values: flags.FlagValues) -> None:
    """Flags of what looks on while loops run."""
    text = flags.DEFINE_string
    text(
        "profile",
        None,
        "DIR: write traces for XProf there, of a few steady steps of each loop",
        flag_values=values,
    )
    text(
        "tensorboard",
        None,
        "DIR: write losses, steps/s and memory there for TensorBoard",
        flag_values=values,
    )


def observers(values: flags.FlagValues) -> list[Any]:
    """What --profile and --tensorboard ask for.

    Raises:
        UserError: a folder cannot be written, or a package is missing.
    """
    from imagic_jax.jobs import output
    from imagic_jax.runtime.observers import Profile, Scalars

    kinds = {"profile": Profile, "tensorboard": Scalars}
    asked = {name: Path(str(values[name].value)) for name in kinds if values[name].value}
    for name, folder in asked.items():
        output.check_writable(folder, f"--{name}")
    return [kinds[name](folder) for name, folder in asked.items()]


def apply_rendering(values: flags.FlagValues, config: Any) -> None:
    """`apply_sampling`, and --eta; "auto" sweeps up to the preset's largest."""
    from imagic_jax.jobs import eta_choice, settings

    if values.eta == AUTO:
        config.etas = eta_choice.sweep_to(max(config.etas))
    elif values.eta is not None:
        config.etas = tuple(
            settings.number(e, "--eta") for e in settings.listed(values.eta, "--eta")
        )
    apply_sampling(values, config)


def apply_sampling(values: flags.FlagValues, config: Any) -> None:
    """Puts the short flags into the preset's config.

    Raises:
        UserError: a flag's value is no number or out of range.
    """
    from imagic_jax.jobs import settings

    base = next(v for v in config.sampling.values() if hasattr(v, "items"))
    if values.seeds is not None:
        config.seeds = tuple(
            settings.whole(s, "--seeds", 0, settings.MOST_SEED)
            for s in settings.listed(values.seeds, "--seeds")
        )
    if values.guidance is not None:
        scale = settings.guidance_scale(values.guidance, "--guidance")
        base.guidance = 1.0 if scale is None else scale
    if values.steps is not None:
        base.steps = settings.whole(values.steps, "--steps", 1, 1000)


def main(values: flags.FlagValues) -> int | None:
    from imagic_jax.jobs import pictures
    from imagic_jax.jobs.request import checked_text
    from imagic_jax.runtime.paths import to_path

    config = values.config
    if values.inputs is not None:
        return edit_inputs(values)
    if values.image is not None and values.text is None:
        raise UserError(
            '--text is missing: say what the picture shall show, e.g. --text="a sitting dog"'
        )
    image = to_path(values.image) if values.image is not None else example(config.example.image)
    text = checked_text(values.text if values.text is not None else config.example.text)
    pictures.load_source(image, 64, values.crop)  # a bad picture fails before JAX is started
    edit_one(values, image, text)
    return None


def edit_one(values: flags.FlagValues, image: Any, text: str) -> None:
    """One picture and one text."""
    from imagic_jax.jobs import edit as job
    from imagic_jax.jobs import output
    from imagic_jax.jobs.batch import edit_alone
    from imagic_jax.runtime.hosts import process_count
    from imagic_jax.runtime.interrupt import Interrupted, stop_flag
    from imagic_jax.runtime.paths import to_path
    from imagic_jax.runtime.progress import Reporter

    asked = chosen_method(values)
    folder = output.default_folder(image.stem, text, asked[0])
    out = to_path(values.out) if values.out else folder
    request, opened, where, watching, _ = opened_request(values, asked, image, text, out)
    if (count := process_count()) > 1:
        raise UserError(
            f"one picture is edited by one process and there are {count}: give a list (--inputs),"
            " or run this on one host (on a TPU slice, on one worker with --alone)"
        )
    with stop_flag() as stop, Reporter(values.quiet, observers=watching) as reporter:
        by = f"{opened.card['name']} by {asked[0]}"
        reporter.say(f"editing {image} to show “{text}” with {by}")
        try:
            if where is None:
                result = job.edit(request, opened, reporter, stop)
            else:
                result = edit_alone(request, opened, where, reporter, stop)
        except Interrupted as error:
            raise _goes_on(error, out) from error
    print_result(result, out)


def edit_inputs(values: flags.FlagValues) -> int:
    """A list of pictures and texts; 1 if some of them failed."""
    from imagic_jax.jobs.batch import ListRequest, edit_list
    from imagic_jax.jobs.lists import read_list
    from imagic_jax.jobs.summary import GOOD, counts
    from imagic_jax.jobs.workshop import Place
    from imagic_jax.runtime.interrupt import Interrupted, stop_flag
    from imagic_jax.runtime.paths import to_path
    from imagic_jax.runtime.progress import Reporter

    if values.image is not None or values.text is not None:
        raise UserError("--inputs names pictures and texts: leave --image and --text out")
    path = to_path(values.inputs)
    asked = chosen_method(values)
    rows = read_list(path, asked[0])
    out = to_path(values.out) if values.out else Path("imagic_out") / path.stem
    request, opened, where, watching, work = opened_request(values, asked, path, "", out)
    with stop_flag() as stop, Reporter(values.quiet, observers=watching) as reporter:
        listed = ListRequest(rows=rows, like=request, work=work, out=out)
        try:
            place = where or Place.alone(opened)
            entries = edit_list(listed, opened, place, reporter, stop)
        except Interrupted as error:
            raise _goes_on(error, out) from error
    print(f"{len(entries)} edits: {counts(entries)}")
    print(f"look at {out / 'index.html'}")
    return 0 if all(e.status in GOOD for e in entries) else 1


def opened_request(
    values: flags.FlagValues, asked: Any, image: Any, text: str, out: Any
) -> tuple[Any, Any, Any, list[Any], Any]:
    """(request, opened model, place or None, observers, work for other amounts and seeds).

    Args:
        values: the flags.
        asked: from `chosen_method`.
        image, text, out: of the request.

    Raises:
        UserError: a flag, the folder or the model cannot be used.
    """
    from imagic_jax.jobs import output, settings
    from imagic_jax.jobs.request import EditRequest

    config, (name, given, amounts) = values.config, asked
    apply_rendering(values, config)
    if values.seed is not None:
        config.seed = settings.whole(values.seed, "--seed", 0, settings.MOST_SEED)
    if values.noise_batch is not None:
        _apply_noise_batch(values.noise_batch, name, config)
    output.check_writable(out)
    watching = observers(values)
    connect(values)
    opened, notes = open_model(values, config, values.size)

    def work(strengths: Any = None, seeds: Any = None, seed: Any = None) -> Any:
        changed = config.copy_and_resolve_references()
        changed.seeds = changed.seeds if seeds is None else tuple(seeds)
        changed.seed = changed.seed if seed is None else seed
        chosen = amounts if strengths is None else list(strengths)
        if given is None:
            return method_flags.imagic_work(changed, opened.cascade, chosen)
        model, clip = opened.card["name"], values.clip
        return method_flags.method_work(
            name, changed, opened.cascade, given, chosen, clip=clip, model=model
        )

    request = EditRequest(
        image=image,
        text=text,
        out=out,
        preset=preset_name(values),
        config=config.to_dict(),
        work=work(),
        negative=values.negative,
        crop=values.crop,
        overwrite=values.overwrite,
        keep_checkpoints=values.keep_checkpoints,
        paste_back=values.paste_back,
        check_memory=values.check_memory,
        choose_eta=values.eta == AUTO,
        metric_weights=Path(values.metric_weights) if values.metric_weights else None,
        notes=tuple(notes),
    )
    return request, opened, place(values, opened, request.work), watching, work


def _apply_noise_batch(given: str, method: str, config: Any) -> None:
    """--noise_batch, for every loop of the preset.

    Raises:
        UserError: the method has no such loops, or it is no number in range.
    """
    from imagic_jax.jobs import settings

    if method != "imagic":
        raise UserError(f"--noise_batch is of Imagic's loops, which {method} does not run")
    batch = settings.whole(given, "--noise_batch", 1, settings.MOST_BATCH)
    loops = (config.get("embedding"), *dict(config.get("tuning") or {}).values())
    for loop in loops:
        if hasattr(loop, "items"):  # what is no section is refused by name with the other settings
            loop.batch = batch


def _goes_on(error: Exception, out: Any) -> Exception:
    from imagic_jax.runtime.interrupt import Interrupted

    return Interrupted(f"{error}; the work so far is in {out}, the same command goes on from there")


def chosen_method(values: flags.FlagValues) -> tuple[str, Any, list[float] | None]:
    """(name, what was given beside picture and text, strengths): checked as far as words go.

    For Imagic, which takes neither, the second is None, and its strengths may be given by --eta.

    Raises:
        UserError: there is no such method, it lacks what it needs, or cannot use what it got.
    """
    given = method_flags.beside(values)
    if values.method == "imagic" and not any(given):  # its flags need no other method's code
        return "imagic", None, method_flags.strengths(values, "imagic")
    from imagic_jax.editors.methods import METHODS
    from imagic_jax.jobs import methods
    from imagic_jax.jobs.method_work import refuse_given

    name = methods.checked_name(values.method)
    refuse_given(name, METHODS.get(name), *given)
    amounts = method_flags.strengths(values, name)
    return name, None if name == methods.IMAGIC else given, amounts


def preset_name(values: flags.FlagValues) -> str:
    """The name of the preset that --config chose."""
    flag: Any = values["config"]
    return Path(flag.config_filename).stem


def open_model(
    values: flags.FlagValues, config: Any, size: Any = None, platform: str | None = None
) -> Any:
    """Starts JAX with the compile cache and opens the model; its weights are not read yet.

    Returns:
        (registry.Opened, notes for people).

    Raises:
        UserError: there is no such model, or it cannot work at `size`.
    """
    from imagic_jax.jobs import models, settings
    from imagic_jax.runtime.compilation import use_cache

    use_cache()
    if values.model is not None:
        config.model = values.model
    asked = None if size is None else settings.whole(size, "--size", 8, 65536)
    opened, notes = models.open_preset(config, asked, values.random_weights, platform)
    if values.model is not None:
        models.without_absent_stages(config, opened.cascade)
    return opened, notes


def print_result(result: dict[str, Any], out: Any) -> None:
    """The last lines: where things are, and the numbers that matter."""
    seconds = result["timings"]
    parts = {"compiling": "compile_s", "embedding": "embed_s", "fine-tuning": "finetune_s"}
    parts |= {"inverting": "invert_s", "rendering": "render_s"}
    listed = ", ".join(f"{name} {seconds[key]:.0f}" for name, key in parts.items() if seconds[key])
    print(f"done in {seconds['total_s']:.0f} s ({listed})")
    if result["method"] == "imagic":
        print(
            f"reconstruction at eta = 0: {result['reconstruction_psnr']:.1f} dB;"
            f" embedding moved by {result['embedding_distance']:.3f}"
        )
    else:
        knob = result["knob"]
        kept = (f"{r['input_psnr']:.1f} dB at {r[knob]:g}" for r in result["outputs"])
        print(f"PSNR to the picture, by {knob}: {', '.join(kept)}")
    chosen = result.get("eta_choice", {})
    for row in chosen.get("seeds", []):
        print(f"seed {row['seed']}: {row['reason']}")
    if best := chosen.get("best"):
        print(f"best by score: eta = {best['eta']:g}, seed {best['seed']}: {best['reason']}")
    print(f"look at {out / 'index.html'}")


COMMAND = Command(
    name="edit",
    summary="edit a picture to follow a sentence",
    usage=(
        "By Imagic, or with --method by another (`imagic methods` lists them). Imagic optimises the"
        " text embedding towards the picture, fine-tunes the model on it, and draws"
        " the picture at several amounts (eta) of the edit. Every method leaves pictures, a strip,"
        " index.html, result.json and the fit in the output folder. An interrupted edit goes on"
        " when the same command is given again."
    ),
    define=define,
    main=main,
    examples=(
        "imagic edit",
        "imagic edit --inputs=jobs.jsonl --mesh=image:4 --out=edits",
        'imagic edit --image=bird.png --text="a bird spreading its wings" --eta=0,0.3,0.6,0.9',
        'imagic edit --image=dog.png --text="a sitting dog" --config.embedding.steps=50 --seeds=0',
        'imagic edit --image=bird.png --text="a bird spreading its wings" --method=sdedit'
        " --strength=0.4,0.6,0.8",
    ),
    preset=DEFAULT_PRESET,
    models=True,
    methods=True,
)
