"""Flags that choose an editing method and hand it what it needs, for `edit` and `compare`."""

import dataclasses
from typing import Any, NamedTuple

from absl import flags

from imagic_jax.errors import UserError


def define_strength(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "strength",
        None,
        "S,S,..: amounts of the edit, in the method's own measure (default: its own)",
        flag_values=values,
    )


def define_beside(values: flags.FlagValues) -> None:
    """Flags of what is given beside picture and text, for the methods that use it."""
    text, switch = flags.DEFINE_string, flags.DEFINE_boolean
    text("source_text", None, "TEXT: what the picture shows as it is", flag_values=values)
    define_concepts(values)
    text(
        "mask",
        None,
        "FILE: a picture, white where the edit may happen; in a Flatland picture also"
        " flatland:subject or flatland:change",
        flag_values=values,
    )
    switch("invert_mask", False, "the edit may happen where the mask is black", flag_values=values)
    text("feather", None, "N: soften the mask's edges over N pixels", flag_values=values)
    text(
        "emphasis",
        None,
        "WORD=F,..: prompt-to-prompt: factors on the attention to words of the text",
        flag_values=values,
    )
    text(
        "place",
        None,
        "WORD,../WORD,..: prompt-to-prompt: change the picture only where these words of the source"
        " text and of the text are",
        flag_values=values,
    )
    define_clip(values)


def define_clip(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "clip",
        None,
        "DIR: a CLIPModel, for methods that CLIP guides (default: the built-in one for the built-in"
        " models)",
        flag_values=values,
    )


def define_concepts(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string(
        "concept",
        [],
        '+TEXT: something to add, or -TEXT to take away, as in "+glasses:scale=7,threshold=.95";'
        " may be given several times",
        flag_values=values,
    )


class Beside(NamedTuple):
    """What was given beside picture and text."""

    source_text: str = ""
    concepts: tuple[Any, ...] = ()  # ConceptText
    mask: Any = None  # MaskSource | None
    words: Any = None  # WordChoices | None


def beside(values: flags.FlagValues) -> Beside:
    """Reads these flags; a mask's file is read, its pixels are not.

    Raises:
        UserError: a concept is not understood, or the mask cannot be read.
    """
    from imagic_jax.jobs import concepts, settings, word_choices

    source = "" if values.source_text is None else checked_source(values.source_text)
    feather = settings.number(values.feather or 0, "--feather")
    if feather < 0:
        raise UserError(f"--feather must not be negative, got {values.feather!r}")
    mask = None
    if values.mask is not None:
        mask = mask_source(values.mask, values.invert_mask, feather)
    elif values.invert_mask or feather:
        flag = "invert_mask" if values.invert_mask else "feather"
        raise UserError(f"--{flag}: there is no --mask that it could change")
    words = word_choices.parse(values.emphasis, values.place)
    return Beside(source, concepts.parse(values.concept), mask, words)


def checked_source(text: str) -> str:
    """A source text without outer spaces.

    Raises:
        UserError: nothing is left.
    """
    text = " ".join(text.split())
    if not text:
        raise UserError(
            "--source_text is empty: say what the picture shows as it is, or leave the flag away"
        )
    return text


def mask_source(name: str, invert: bool = False, feather: float = 0.0) -> Any:
    """A mask by its name; a file is read, its pixels are not."""
    from imagic_jax.jobs.masks import MaskSource

    return MaskSource(name=name, invert=invert, feather=feather)


def strengths(values: flags.FlagValues, name: str) -> list[float] | None:
    """--strength as numbers, None where it was left away; Imagic's may be given by --eta.

    Raises:
        UserError: no number, both flags, or --eta for another method than Imagic.
    """
    from imagic_jax.jobs import settings

    if values.eta is not None and name != "imagic":
        raise UserError(f"--eta is Imagic's; the amount of {name} is given by --strength")
    if values.strength is None:
        return None
    if values.eta is not None:
        raise UserError("--eta and --strength are one thing for Imagic: give one of them")
    listed = settings.listed(values.strength, "--strength")
    return [settings.number(s, "--strength") for s in listed]


def imagic_work(config: Any, cascade: Any, etas: list[float] | None) -> Any:
    """Imagic as `jobs.edit` runs it, its strength being eta."""
    from imagic_jax.jobs import settings
    from imagic_jax.jobs.imagic_work import ImagicWork

    checked = settings.from_config(config, cascade)
    return ImagicWork(checked if etas is None else dataclasses.replace(checked, etas=tuple(etas)))


def method_work(
    name: str,
    config: Any,
    cascade: Any,
    given: Beside,
    amounts: list[float] | None,
    *,
    clip: str | None = None,
    model: str = "",
    **saved: Any,
) -> Any:
    """A method as `jobs.edit` runs it.

    Args:
        name, config, cascade: method, preset and model.
        given: what was given beside picture and text.
        amounts: --strength.
        clip: --clip.
        model: the model's name, which CLIP models may belong to.
        saved: fields of `MethodWork` that a saved fit knows.

    Raises:
        UserError: a setting or a strength is out of range, or there is no CLIP model.
    """
    from imagic_jax.editors.methods import METHODS
    from imagic_jax.jobs import methods, models, settings
    from imagic_jax.jobs.method_work import MethodWork

    method = METHODS[name]
    methods.with_defaults(config)
    own = methods.settings(method, config.methods[name].to_dict())
    checked = settings.untuned(settings.from_config(config, cascade))
    return MethodWork(
        method=method,
        config=own,
        settings=checked,
        strengths=methods.strengths(method, own, amounts, checked.sampling),
        source_text=given.source_text,
        concepts=given.concepts,
        mask_source=given.mask,
        words=given.words,
        clip=models.clip_for(method, clip, model),
        **saved,
    )


def work_again(about: Any, config: Any, cascade: Any, amounts: list[float] | None) -> Any:
    """The work that a saved fit belongs to.

    Raises:
        UserError: the fit's method is not known, or a strength is out of range.
    """
    from imagic_jax.jobs import concepts, methods

    name = methods.checked_name(about["method"], "--fit")
    if name == methods.IMAGIC:
        return imagic_work(config, cascade, amounts)
    methods.with_defaults(config)
    config.methods[name].update(about["method_settings"])
    return method_work(
        name,
        config,
        cascade,
        Beside(about["source_text"], concepts.parse(about["concepts"])),
        amounts or about["strengths"],
        clip=about["clip"] or None,
        model=about["model"],
        text=about["text"],
        inverted_in=about.get("sampling", {}).get("steps"),
    )
