"""`imagic compare`: several methods on the same pictures, side by side on one page."""

from pathlib import Path
from typing import Any

from absl import flags

from imagic_jax.cli import method_flags
from imagic_jax.cli.edit import (
    DEFAULT_PRESET,
    apply_sampling,
    define_model,
    define_sampling,
    open_model,
    preset_name,
)
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError
from imagic_jax.jobs.presets import example

ALL = "all"
TEXT = "{text}"  # in a concept: the picture's own


def define(values: flags.FlagValues) -> None:
    text, several = flags.DEFINE_string, flags.DEFINE_multi_string
    text(
        "methods",
        ALL,
        "NAME,NAME,..: the methods, or all that can work with what is given",
        flag_values=values,
    )
    several("image", [], "FILE: a picture; may be given several times", flag_values=values)
    several("text", [], "TEXT: what it shall show; one for each picture", flag_values=values)
    several(
        "source_text",
        [],
        "TEXT: what it shows as it is; one for each picture",
        flag_values=values,
    )
    several("mask", [], "FILE: white where the edit may happen; one for each", flag_values=values)
    method_flags.define_concepts(values)
    method_flags.define_clip(values)
    text(
        "sweep",
        "4",
        "N: amounts of the edit by each method, evenly over its range; 1 is its own alone",
        flag_values=values,
    )
    define_model(values)
    define_sampling(values)
    text("seed", None, "N: seed of the fits", flag_values=values)
    text(
        "crop",
        "center",
        "HOW: square of a picture that is not square: center, pad or LEFT,TOP,SIDE",
        flag_values=values,
    )
    switch = flags.DEFINE_boolean
    switch("overwrite", False, "throw away other jobs' results in the folders", flag_values=values)
    switch("check_memory", True, "refuse what cannot fit into memory", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.jobs import compare as job
    from imagic_jax.jobs import output, settings
    from imagic_jax.runtime.interrupt import Interrupted, stop_flag
    from imagic_jax.runtime.progress import Reporter

    config = values.config
    cases = _cases(values, config)
    names = _names(values, cases)
    count = settings.whole(values.sweep, "--sweep", 1, 11)
    apply_sampling(values, config)
    if values.seed is not None:
        config.seed = settings.whole(values.seed, "--seed", 0, settings.MOST_SEED)
    out = Path(values.out) if values.out else Path("imagic_out") / "compare"
    output.check_writable(out)
    opened, notes = open_model(values, config)
    names, left_out = _able(values, names, opened)
    request = job.CompareRequest(
        cases=cases,
        names=names,
        work=lambda name, case: _work(name, case, config, opened, count, values.clip),
        edit=lambda case, folder, work: _edit(values, config, notes, case, folder, work),
        out=out,
        preset=preset_name(values),
        crop=values.crop,
    )
    for case in cases:
        for name in names:  # a bad setting fails before the first edit
            request.work(name, case)
    with stop_flag() as stop, Reporter(values.quiet) as reporter:
        for sentence in left_out:
            reporter.say(sentence)
        try:
            job.compare(request, opened, reporter, stop)
        except Interrupted as error:
            raise Interrupted(
                f"{error}; what is finished is in {out}, the same command goes on from there"
            ) from error
    print(f"compared {', '.join(names)} on {len(cases)} pictures; look at {out / 'index.html'}")


def _cases(values: flags.FlagValues, config: Any) -> tuple[Any, ...]:
    """The pictures with what belongs to each.

    Raises:
        UserError: a flag is given more or less often than --image, or what it names cannot be used.
    """
    from imagic_jax.jobs import concepts, pictures
    from imagic_jax.jobs.compare import Case
    from imagic_jax.jobs.edit import checked_text

    images = [Path(i) for i in values.image] or [example(config.example.image)]
    texts = values.text or ([] if values.image else [config.example.text])
    lists = {"text": texts, "source_text": values.source_text, "mask": values.mask}
    for flag, given in lists.items():
        if len(given) != len(images) and (given or flag == "text"):
            raise UserError(
                f"--{flag} is given {len(given)} times for {len(images)} pictures: give one for"
                " each --image, in the same order"
            )
    cases = []
    for i, image in enumerate(images):
        pictures.load_source(image, 64, values.crop)  # a bad picture fails before JAX is started
        source = method_flags.checked_source(values.source_text[i]) if values.source_text else ""
        mask = method_flags.mask_source(values.mask[i]) if values.mask else None
        text = checked_text(texts[i])
        wanted = concepts.parse([c.replace(TEXT, text) for c in values.concept])
        cases.append(Case(image, text, source, mask, wanted))
    return tuple(cases)


def _names(values: flags.FlagValues, cases: tuple[Any, ...]) -> tuple[str, ...]:
    """The methods that were asked for, each once.

    Raises:
        UserError: there is no such method, or it lacks what it needs.
    """
    from imagic_jax.editors.methods import METHODS
    from imagic_jax.jobs import methods
    from imagic_jax.jobs.method_work import lacks

    if values.methods.strip().lower() == ALL:
        able = [n for n, m in METHODS.items() if not any(lacks(m, *c.given) for c in cases)]
        return (methods.IMAGIC, *able)
    from imagic_jax.jobs.settings import listed

    asked = [methods.checked_name(n, "--methods") for n in listed(values.methods, "--methods")]
    for name in asked:
        for case in cases:
            missing = lacks(METHODS[name], *case.given) if name in METHODS else None
            if missing is not None:
                raise UserError(f"--methods: {name} needs {missing}")
    return tuple(dict.fromkeys(asked))


def _able(
    values: flags.FlagValues, names: tuple[str, ...], opened: Any
) -> tuple[tuple[str, ...], list[str]]:
    """The methods that can work on the model, and why others of "all" are left out.

    Raises:
        UserError: one that was named cannot.
    """
    said, able = [], []
    for name in names:
        why = _unable(name, opened, values.clip)
        if why is None:
            able.append(name)
        elif values.methods.strip().lower() == ALL:
            said.append(f"{name} is left out: {why}")
        else:
            raise UserError(f"--methods: {why}")
    return tuple(able), said


def _unable(name: str, opened: Any, clip: str | None) -> str | None:
    """Why a method cannot work on a model, or None."""
    from imagic_jax.editors.methods import METHODS
    from imagic_jax.jobs import models

    if name not in METHODS:
        return None
    try:
        models.clip_for(METHODS[name], clip, opened.card["name"])
    except UserError as error:
        return str(error)
    why = METHODS[name].refuses(opened.cascade)
    return None if why is None else f"{name} cannot work on {opened.card['name']}: {why}"


def _work(name: str, case: Any, config: Any, opened: Any, count: int, clip: str | None) -> Any:
    """A method's work on one picture, given of what there is only what it uses."""
    from imagic_jax.editors.methods import METHODS
    from imagic_jax.jobs.compare import spread
    from imagic_jax.jobs.method_work import usable

    if name not in METHODS:
        return method_flags.imagic_work(config, opened.cascade, None)
    method = METHODS[name]
    given = method_flags.Beside(*usable(method, *case.given))
    amounts = None if count == 1 else list(spread(method.strengths, count))
    return method_flags.method_work(
        name, config, opened.cascade, given, amounts, clip=clip, model=opened.card["name"]
    )


def _edit(
    values: flags.FlagValues, config: Any, notes: list[str], case: Any, folder: Path, work: Any
) -> Any:
    from imagic_jax.jobs.edit import EditRequest

    return EditRequest(
        image=case.image,
        text=case.text,
        out=folder,
        preset=preset_name(values),
        config=config.to_dict(),
        work=work,
        negative=values.negative,
        crop=values.crop,
        overwrite=values.overwrite,
        check_memory=values.check_memory,
        reuse=True,
        notes=tuple(notes),
    )


COMMAND = Command(
    name="compare",
    summary="edit the same pictures by several methods, on one page",
    usage=(
        "Runs every method on every picture and writes one self-contained page with all results,"
        " their numbers and times side by side. A method is given of source text, mask and"
        " concepts what it uses; {text} in a concept stands for the picture's text. Every edit is a"
        " folder as `imagic edit` leaves it; what is finished is kept when the same command is"
        " given again."
    ),
    define=define,
    main=main,
    examples=(
        "imagic compare",
        'imagic compare --methods=imagic,sdedit,ddib --image=a.png --text="a cat"'
        ' --source_text="a dog"',
    ),
    preset=DEFAULT_PRESET,
    models=True,
    methods=True,
)
