"""Folders in the public benchmarks' exact layouts, with the traps of the real ones."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image as pil

#: (img_name, target_text) as TEdBench spells them.
EDITS = (
    ("bird.jpeg", "A photo of a bird spreading wings."),
    ("bird.png", "A bird looking backwards."),  # the same blob as bird.jpeg, a JPEG in a .png
    ("door.jpeg", "A door with a pet enterance."),
    ("pizza1.png", "Pizza with pepperoni."),  # RGBA
    ("pizza1.png", "A half eaten pizza."),
    ("red_car.jpeg", "A convertable car."),  # 1045 x 1046
    ("tree_1.jpeg", "A photo of a tree. Taken in autumn."),
)


def picture(number: int, width: int = 96, height: int = 96) -> pil.Image:
    """A smooth RGB picture; another for every number."""
    rng = np.random.default_rng(number)
    coarse = pil.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return coarse.resize((width, height), pil.Resampling.BICUBIC)


def as_bytes(image: pil.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_tedbench(folder: Path) -> Path:
    """TEdBench in miniature: five pictures, seven edits."""
    originals = folder / "originals"
    originals.mkdir(parents=True)
    bird = as_bytes(picture(0, 300, 340), "JPEG")
    (originals / "bird.jpeg").write_bytes(bird)
    (originals / "bird.png").write_bytes(bird)
    (originals / "door.jpeg").write_bytes(as_bytes(picture(1, 256, 256), "JPEG"))
    pizza = picture(2, 256, 256).convert("RGBA")
    pizza.putalpha(pil.linear_gradient("L"))
    (originals / "pizza1.png").write_bytes(as_bytes(pizza, "PNG"))
    (originals / "red_car.jpeg").write_bytes(as_bytes(picture(3, 1045, 1046), "JPEG"))
    (originals / "tree_1.jpeg").write_bytes(as_bytes(picture(4, 400, 320), "JPEG"))
    rows = [{"img_name": n, "target_text": t} for n, t in EDITS]
    (folder / "input_list.json").write_text(json.dumps(rows, indent=2))
    return folder


#: The authors' names of their results, as their folder holds them.
RESULTS = (
    "bird.jpeg-A_photo_of_a_bird_spreading_wings.png",
    "bird.png-A_bird_looking_backwards.png",
    "door.jpeg-A_door_with_a_pet_enterance.png",
    "pizza1.png-Pizza_with_pepperoni.png",
    "pizza1.png-A_half_eaten_pizza.png",
    "red_car.jpeg-A_convertable_car.png",
    "tree_1.jpeg-A_photo_of_a_tree._Taken_in_autumn.png",
)


def write_results(folder: Path, names=RESULTS, side: int = 1024, shift: int = 100) -> Path:
    """Results of a method under the given names."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number + shift, side, side).save(path)
    return folder


PIE = {
    "000000000000": ("0_random_140/000000000000.jpg", "0", [0, 512 * 200]),
    "111000000001": ("1_change_object_80/1_artificial/111000000001.jpg", "1", [131072, 131072]),
    "900000000002": ("9_change_style_80/900000000002.jpg", "9", [0, 512 * 512]),
    "200000000003": ("2_add_object_80/200000000003.jpg", "2", []),
}  # fmt: skip


def write_piebench(folder: Path) -> Path:
    """PIE-Bench in miniature: a mask of everything and an empty one among four."""
    rows = {}
    for number, (key, (path, kind, mask)) in enumerate(PIE.items()):
        where = folder / "annotation_images" / path
        where.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 512, 512).save(where)
        rows[key] = {
            "image_path": path,
            "original_prompt": "a [red] dog in the snow",
            "editing_prompt": "a [blue] dog in the snow",
            "editing_instruction": "make the dog blue",
            "editing_type_id": kind,
            "blended_word": "dog dog",
            "mask": mask,
        }
    (folder / "mapping_file.json").write_text(json.dumps(rows))
    return folder
